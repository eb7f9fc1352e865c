"""``python -m service enhance``: describes every item image of a bundle once, for the enhanced view."""
