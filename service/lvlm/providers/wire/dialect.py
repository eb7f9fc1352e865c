"""The parts of a wire format that one server accepts, and what it needs besides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

OutputCap = Literal["max_tokens", "max_completion_tokens"]
"""Name of the field that caps the answer's tokens; OpenAI has renamed it, most other servers have not."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """Fields of a wire format that a server accepts, and additions that it needs.

    Attributes:
        output_cap: name of the field that caps the answer's tokens.
        stream_options: whether it accepts ``stream_options``, by which a stream ends with its usage.
        image_detail: whether it accepts the ``detail`` of a picture.
        system_role: whether it accepts a system message; otherwise the instructions lead the user's message.
        content_parts: whether it accepts content as a list of parts; otherwise content is one string, without
            pictures.
        structured_output: whether it accepts the JSON schema of the answer.
        images: whether it accepts pictures; otherwise the prompt is sent without them.
        headers: headers sent with every call besides the format's own; values may be secret.
        query: parameters appended to every call's address; values may be secret.
        api_key_header: name of the header that carries the bare key instead of the format's own; empty for
            the format's own.
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
        """Whether the server can be sent no picture."""
        return not (self.images and self.content_parts)
