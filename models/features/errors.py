"""Defines the error of computing features."""

from models.errors import ModelsError


class FeatureError(ModelsError):
    """An encoder cannot be loaded, or the data set lacks what it reads."""
