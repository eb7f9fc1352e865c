"""Accounts of calls: the ledger, bills, tokens, limits per minute and the prompt cache."""
