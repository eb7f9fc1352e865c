"""The commands of ``python -m models``, one module each."""
