"""Describes one configured provider, and the interface by which each kind of provider reads its settings."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, SecretStr, StringConstraints
from pydantic_settings import NoDecode

from service.errors import ConfigurationError
from service.lvlm.providers.base import ImageDetail, Provider
from service.lvlm.providers.batches import Batches
from service.lvlm.providers.server_options import NOT_SENDABLE, sendable
from service.lvlm.providers.wire.base_urls import normalised
from service.lvlm.providers.wire.dialect import Dialect
from service.lvlm.providers.wire.transport import check_proxies

ImageDetailOf = Callable[[str], ImageDetail]
"""Function from a model's name to the resolution at which it is asked to look at a picture."""


def _split(value: object) -> object:
    if isinstance(value, str):
        return tuple(name.strip() for name in value.split(",") if name.strip())
    return value


def _check_address(url: str) -> str:
    if url:
        normalised(url, "openai")  # the checks are the same for both wire formats
    return url


def _check_key(key: SecretStr) -> SecretStr:
    if not sendable(key.get_secret_value()):
        raise ValueError(NOT_SENDABLE)
    return key


ProviderName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]
# One comma-separated string; without NoDecode pydantic-settings would read it as JSON.
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Address = Annotated[str, AfterValidator(_check_address)]
ApiKey = Annotated[SecretStr, AfterValidator(_check_key)]


@dataclass(frozen=True, slots=True)
class ConfiguredProvider:
    """One provider that the settings configure: its address, the fields it accepts, and how it is opened.

    Attributes:
        name: name in requests, answers and metric labels.
        models: names of its models, the default first; at least one.
        address: normalised base URL (``base_urls``); empty if no address is known yet.
        opener: function that makes the provider; it imports the vendor's SDK.
        batch_opener: function that makes the batch API of an open provider; None if it has none.
        dialect: fields that the server accepts.
        api_key: API key; empty for a server without keys.
        key_variable: environment variable that holds the key; empty for a server without keys.
        simulated: whether it is the simulator, whose answers cost nothing.
        own_server: whether it is the vendor's own server, the only one to see the SDK's account variables.
        problem: sentence for the operator that says why the provider cannot be opened; empty if it can.
    """

    name: str
    models: tuple[str, ...]
    address: str
    opener: Callable[[ConfiguredProvider, ImageDetailOf], Provider]
    batch_opener: Callable[[Provider], Batches] | None = None
    dialect: Dialect = field(default_factory=Dialect)
    api_key: str = field(default="", repr=False)
    key_variable: str = ""
    simulated: bool = False
    own_server: bool = False
    problem: str = ""

    def check(self) -> None:
        """Checks that the provider can be opened, without opening it or connecting to it.

        Raises:
            ConfigurationError: its key, its address or a proxy for it cannot be used.
        """
        if self.problem:
            raise ConfigurationError(self.problem)
        check_proxies(self.address)

    def open(self, image_detail: ImageDetailOf) -> Provider:
        """Makes the provider, without connecting to it.

        Args:
            image_detail: function from a model's name to the detail of its pictures.

        Raises:
            ConfigurationError: its key, its address or a proxy for it cannot be used.
        """
        self.check()
        return self.opener(self, image_detail)

    def open_batches(self, provider: Provider) -> Batches:
        """Makes the batch API of this provider.

        Args:
            provider: this provider, opened.

        Raises:
            ConfigurationError: it has no batch API.
        """
        if self.batch_opener is None:
            raise ConfigurationError(f"no batch API is known for {self.name}: leave --batch out")
        return self.batch_opener(provider)


class KindSettings(BaseModel):
    """The settings of one kind of provider, a part of the service's settings.

    A subclass declares fields of its own; the environment variable of each is ``MSR_<FIELD>``.

    Attributes:
        NAMES: names of the providers that this kind has without a declaration.
        provider: name of the default provider, of any kind.
    """

    NAMES: ClassVar[tuple[str, ...]] = ()

    provider: ProviderName = "simulator"

    @abstractmethod
    def configured(self, *, keyless: bool) -> Sequence[ConfiguredProvider]:
        """Returns the providers of this kind that the settings configure.

        Args:
            keyless: whether to include those that lack nothing but a key, for callers that estimate calls or
                play recorded ones instead of making them.
        """
