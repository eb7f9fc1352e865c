"""Being here, this file puts its folder on the path, for the tests in the folders below."""
