"""The LVLM stage: prompts, pictures, providers, answers."""
