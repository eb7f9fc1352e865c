"""The vendors' batch APIs: files, batches and their calls."""
