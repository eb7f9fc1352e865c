"""The simulated model: it parses the prompt, then ranks, describes, or answers badly on purpose."""
