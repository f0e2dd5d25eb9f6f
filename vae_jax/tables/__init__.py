"""Tables: reading transactions and other CSV files, splitting, standardising and simulating rows."""
