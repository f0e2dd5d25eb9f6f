"""The commands: one folder per experiment, and what they share."""
