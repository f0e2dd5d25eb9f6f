"""What the image and table readers share: downloads, and one-line errors."""
