"""The benchmark of providers whose answers never end."""
