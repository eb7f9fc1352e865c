"""How one server wants a wire format to be spoken: what it takes, and what it needs besides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

OutputCap = Literal["max_tokens", "max_completion_tokens"]


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a server takes of its wire format.

    Attributes:
        output_cap: the field that caps the answer's tokens.
        stream_options: it takes ``stream_options``, by which a stream ends with its usage.
        image_detail: it takes the ``detail`` of a picture.
        system_role: it takes a system message; otherwise the instructions lead the user's message.
        content_parts: it takes content as a list of parts; otherwise content is one string, without pictures.
        structured_output: it takes the JSON schema of the answer.
        images: it takes pictures; otherwise the prompt is sent without them.
        headers: sent with every call, besides those of the format; they may be secret.
        query: appended to every call's address; it may be secret.
        api_key_header: the header that carries the bare key in the place of the format's own; empty for that.
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
