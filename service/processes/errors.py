"""Defines the error that ends a start."""

from __future__ import annotations


class StartFailedError(Exception):
    """The service cannot start: the message is a sentence that says why and what to do.

    Attributes:
        status: exit status that the process ends with.
    """

    def __init__(self, sentence: str, status: int = 1) -> None:
        super().__init__(sentence)
        self.status = status
