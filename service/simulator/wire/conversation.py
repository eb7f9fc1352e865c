"""Gathers the parts of a prompt message by message, alike for both vendors."""

from __future__ import annotations

from dataclasses import dataclass, field

from service.simulator.accounting import text_tokens
from service.simulator.contracts import Picture


@dataclass(slots=True)
class Conversation:
    """What the messages of a request hold.

    Attributes:
        instructions: texts of the system's and the developer's messages, in order.
        texts: texts of the user's messages, in order.
        pictures: pictures of all messages, in order.
        text_tokens: tokens of all messages, of every role, without the pictures.
    """

    instructions: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    text_tokens: int = 0

    def add(self, role: str, texts: list[str], pictures: list[Picture]) -> None:
        """Adds the parts of one message."""
        # Every message is billed, those of the assistant included.
        self.text_tokens += text_tokens.MESSAGE_OVERHEAD + sum(text_tokens.count(text) for text in texts)
        self.pictures += pictures
        if role == "user":
            self.texts += texts
        elif role in ("system", "developer"):
            self.instructions += texts
