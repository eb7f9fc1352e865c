"""The speed of candidate generation and HTTP beside plain alternatives, and of one commit beside another."""
