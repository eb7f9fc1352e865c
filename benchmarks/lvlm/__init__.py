"""The LVLM stage under load, beside slow and failing providers, and beside bare calls of them."""
