"""Describes what a number was measured on, as ``models.machine`` does, whose pages name the same facts."""

from models.machine import PACKAGES, ROOT, describe, facts

__all__ = ["PACKAGES", "ROOT", "describe", "facts"]
