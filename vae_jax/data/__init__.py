"""What the readers of images and tables share: places, downloads, unpacking, strict JSON, errors, and parts."""
