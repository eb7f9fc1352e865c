"""What settings say of a provider's server: where it is, which key it gets, what it takes."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    field_validator,
    model_validator,
)

from service.lvlm.providers.addresses import normalised
from service.lvlm.providers.dialect import Dialect, OutputCap

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
"""Headers that say how a request is sent: another value would break it."""

ModelName = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class ServerOptions(BaseModel):
    """What a server takes of its wire format, and what it needs besides; see ``Dialect``."""

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
        """The same for a provider, secrets unwrapped."""
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


class AnthropicOptions(ServerOptions):
    """What a server takes of Anthropic's format."""

    output_cap: Literal["max_tokens"] = "max_tokens"

    @model_validator(mode="before")
    @classmethod
    def _refuse_output_cap(cls, given: Any) -> Any:
        if isinstance(given, dict) and "output_cap" in given:
            raise ValueError("output_cap does not apply: Anthropic's format caps answers in one way alone")
        return given


class CompatibleProvider(ServerOptions):
    """A server that speaks OpenAI's chat completions: vLLM, Ollama, llama.cpp, Azure, a gateway.

    Attributes:
        api_key_variable: the environment variable that holds the key; empty for servers without keys.
        output_cap: the field that caps an answer; most of these servers know the older one alone.
    """

    base_url: str
    models: tuple[ModelName, ...] = Field(min_length=1)
    api_key_variable: str = ""
    output_cap: OutputCap = "max_tokens"

    @field_validator("base_url")
    @classmethod
    def _check_base_url(cls, url: str) -> str:
        normalised(url, "openai")
        return url

    @field_validator("api_key_variable")
    @classmethod
    def _check_api_key_variable(cls, name: str) -> str:
        if name and not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):  # and maybe a key: it is not shown
            raise ValueError("must be the name of an environment variable that holds the key")
        return name

    @model_validator(mode="after")
    def _check_there_is_a_key(self) -> CompatibleProvider:
        if self.api_key_header and not self.api_key_variable:
            raise ValueError("api_key_header needs api_key_variable, which names the variable of the key")
        return self


NOT_SENDABLE = (
    "holds characters that no header can carry (line ends, control characters, letters beyond ASCII)"
)


def sendable(value: str) -> bool:
    """Whether a header can carry a value: printable ASCII without white space around it (RFC 9110, 5.5)."""
    return re.fullmatch(r"([!-~]([ -~\t]*[!-~])?)?", value) is not None


def _check_header_name(name: str) -> None:
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,80}", name):
        raise ValueError("a header's name is made of letters, digits and a few signs such as '-'")
    if name.lower() in _FRAMING:
        raise ValueError(f"{name} must not be set: it says how a request is sent")


def _not_text(value: str) -> bool:
    """Whether it holds half a character, which JSON can write and UTF-8 cannot."""
    return any("\ud800" <= char <= "\udfff" for char in value)
