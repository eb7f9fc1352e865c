"""What the simulated model answers: it reads the prompt, ranks or describes, or does badly on purpose."""
