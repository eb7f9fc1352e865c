"""OpenAI's wire format: ``POST /v1/chat/completions``, as its API reference describes it."""
