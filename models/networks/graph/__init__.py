"""Holds what graph families share: the graph of users and items, its sparse products, pairs and contents."""
