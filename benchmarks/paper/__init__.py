"""The paper's questions, asked of a running service: accuracy, seconds per user and cost."""
