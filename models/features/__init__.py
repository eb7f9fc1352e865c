"""Computes frozen features of texts and pictures, once, and caches them."""

from models.features.catalogue import Features, item_features
from models.features.errors import FeatureError

__all__ = ["FeatureError", "Features", "item_features"]
