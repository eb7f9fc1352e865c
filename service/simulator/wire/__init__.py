"""The vendors' wire formats for single calls, and the HTTP that carries them."""
