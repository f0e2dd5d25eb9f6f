"""Tables: reading transactions and other CSV files, splitting and standardising rows, simulated rows."""
