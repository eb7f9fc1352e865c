"""What the wire formats of all vendors share: HTTP within bounds, bodies, failures and refused fields."""
