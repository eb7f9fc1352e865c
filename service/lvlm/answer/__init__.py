"""Answers: an LVLM's text becomes an order of the candidates."""
