"""What readers of pictures and of tables have in common: downloads, and errors in one line."""
