"""Accounts for calls: the ledger, bills, token counts, limits per minute and the prompt cache."""
