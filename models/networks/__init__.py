"""Networks: tensors and numbers in, tensors out; no files."""
