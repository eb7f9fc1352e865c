"""What is written down about calls: the ledger, bills, tokens and limits."""
