"""Tables: reading files of any kind, what their columns are, and rows that are split, standardised or simulated."""
