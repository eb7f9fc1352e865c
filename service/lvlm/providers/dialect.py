"""What one server understands of its vendor's format: settings say it, else a refusal teaches it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

OutputCap = Literal["max_tokens", "max_completion_tokens"]


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a request to one server may hold.

    Attributes:
        output_cap: the field that caps the answer's tokens; OpenAI's format alone.
        stream_options: the server takes ``stream_options``, by which a stream reports its usage.
        image_detail: it takes the ``detail`` of a picture.
        system_role: it takes a system message; else its text stands at the beginning of the user's.
        content_parts: it takes content as a list of parts; else as one string, which holds no pictures.
        structured_output: it takes a JSON schema for the answer.
        images: it takes pictures.
        headers: sent with every request; may hold secrets.
        query: parameters of every request's URL.
        api_key_header: the header that carries the key; empty for the vendor's own.
    """

    output_cap: OutputCap = "max_completion_tokens"
    stream_options: bool = True
    image_detail: bool = True
    system_role: bool = True
    content_parts: bool = True
    structured_output: bool = True
    images: bool = True
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    query: Mapping[str, str] = field(default_factory=dict, repr=False)
    api_key_header: str = ""

    @property
    def blind(self) -> bool:
        """Whether no picture can be sent."""
        return not (self.images and self.content_parts)
