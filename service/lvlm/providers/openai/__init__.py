"""OpenAI, and the servers that speak its chat completions."""
