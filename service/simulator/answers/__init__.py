"""The simulated model: parses prompts, ranks candidates, describes pictures and malforms answers."""
