"""The commands: one folder for each experiment, and what they share."""
