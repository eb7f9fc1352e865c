"""The two vendors' wire formats and the HTTP around them."""
