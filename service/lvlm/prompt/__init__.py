"""Prompts: what the LVLM is shown of a history and its candidates, as text and as pictures."""
