"""Images: sources, decoding, a cache on disk, batches, and measures of reconstructions."""
