"""A stand-in for a large vision-language model: a server that speaks the OpenAI and Anthropic wire formats.

It reads the prompt, decodes the pictures and ranks by content, so that its answers mean something, and it
marks every answer as simulated. It imports nothing of the service: its judgement must not share a mistake
with the code that it tests. Run it with ``python -m service.simulator``.
"""
