"""The vendors' batch APIs: files, batches and the calls of a batch."""
