"""What calls cost: prices, estimates, the ledger, budgets and quotas."""
