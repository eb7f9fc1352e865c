"""Describes what pictures show, by image statistics alone: no model recognises things here."""
