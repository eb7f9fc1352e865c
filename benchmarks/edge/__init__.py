"""The benchmark of clients that mean ill."""
