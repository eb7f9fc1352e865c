"""Describes every item image of a bundle once with an LVLM, by calls or in batches (``service enhance``)."""
