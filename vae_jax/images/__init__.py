"""Pictures: where they come from, decoding, a cache on disk, batches, and measures of reconstructions."""
