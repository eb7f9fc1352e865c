"""Parts that all vendors' wire formats share: bounded HTTP, response bodies, failures, refused fields.

No vendor's format is in here: what a request or an answer holds is said in ``openai/`` and ``anthropic/``.
"""
