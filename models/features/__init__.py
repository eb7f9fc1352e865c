"""Frozen features: what an item tower reads about texts and pictures, computed once and cached."""

from models.features.catalogue import Features, item_features
from models.features.errors import FeatureError

__all__ = ["FeatureError", "Features", "item_features"]
