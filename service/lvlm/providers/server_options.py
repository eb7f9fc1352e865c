"""Checks the options of a server in the settings: the fields that it accepts, headers and parameters."""

from __future__ import annotations

import re

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

from service.lvlm.providers.wire.dialect import Dialect, OutputCap

_FRAMING = frozenset(
    (
        *(
            "accept-encoding",
            "connection",
            "content-encoding",
            "content-length",
            "content-type",
            "expect",
            "host",
        ),
        *("keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"),
    )
)
"""Headers of HTTP's framing and negotiation; settings that name one are refused: it would break requests."""


class ServerOptions(BaseModel):
    """The options of a server, by the names of the fields of ``Dialect``, which explains them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    output_cap: OutputCap = "max_completion_tokens"
    stream_options: bool = True
    image_detail: bool = True
    system_role: bool = True
    content_parts: bool = True
    structured_output: bool = True
    images: bool = True
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    query: dict[str, SecretStr] = Field(default_factory=dict)
    api_key_header: str = ""

    @field_validator("headers")
    @classmethod
    def _check_headers(cls, headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, value in headers.items():
            _check_header_name(name)
            if not sendable(value.get_secret_value()):
                raise ValueError(f"the value of {name} {NOT_SENDABLE}")
        if len({name.lower() for name in headers}) < len(headers):
            raise ValueError("a header is named twice")
        return headers

    @field_validator("query")
    @classmethod
    def _check_query(cls, query: dict[str, SecretStr]) -> dict[str, SecretStr]:
        if not all(name.isprintable() and name and value.get_secret_value() for name, value in query.items()):
            raise ValueError("every parameter needs a name and a value")
        if any(_not_text(name + value.get_secret_value()) for name, value in query.items()):
            raise ValueError("a parameter holds characters that no address can carry")
        return query

    @field_validator("api_key_header")
    @classmethod
    def _check_api_key_header(cls, name: str) -> str:
        if name:
            _check_header_name(name)
        return name

    @model_validator(mode="after")
    def _check_key_comes_once(self) -> ServerOptions:
        if self.api_key_header.lower() in {name.lower() for name in self.headers}:
            raise ValueError(
                f"api_key_header and headers both name {self.api_key_header}: the key comes once"
            )
        return self

    @property
    def dialect(self) -> Dialect:
        """The options as a provider needs them, with their secrets readable."""
        return Dialect(
            output_cap=self.output_cap,
            stream_options=self.stream_options,
            image_detail=self.image_detail,
            system_role=self.system_role,
            content_parts=self.content_parts,
            structured_output=self.structured_output,
            images=self.images,
            headers={name: value.get_secret_value() for name, value in self.headers.items()},
            query={name: value.get_secret_value() for name, value in self.query.items()},
            api_key_header=self.api_key_header,
        )


NOT_SENDABLE = (
    "holds characters that no header can carry (line ends, control characters, letters beyond ASCII)"
)
"""Clause for the operator about a value that is not sendable."""


def sendable(value: str) -> bool:
    """Tells whether a header can carry a value: printable ASCII, no space around it (RFC 9110, 5.5)."""
    return re.fullmatch(r"([!-~]([ -~\t]*[!-~])?)?", value) is not None


def _check_header_name(name: str) -> None:
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,80}", name):
        raise ValueError("a header's name is made of letters, digits and a few signs such as '-'")
    if name.lower() in _FRAMING:
        raise ValueError(f"{name} must not be set: it says how a request is sent")


def _not_text(value: str) -> bool:
    """Whether a text holds a lone surrogate, which JSON's escapes can write and UTF-8 cannot."""
    return any("\ud800" <= char <= "\udfff" for char in value)
