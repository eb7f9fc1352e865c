"""``python -m service enhance``: describe every item image of a bundle once, for the enhanced view."""
