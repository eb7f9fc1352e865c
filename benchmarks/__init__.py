"""Accuracy and efficiency of a live service, measured from outside."""
