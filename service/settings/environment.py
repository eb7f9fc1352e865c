"""Reads the settings from environment variables, and turns what is wrong with them into sentences."""

from __future__ import annotations

import difflib
import os
import re

from pydantic import AliasChoices, ValidationError
from pydantic_settings import SettingsError

from service.errors import ConfigurationError
from service.lvlm.providers.openai.settings import CompatibleProvider
from service.settings.error_sentences import is_nested_too_deeply, sentence
from service.settings.settings import ProviderLimit, Settings


def read_settings() -> Settings:
    """Reads the settings from the environment.

    Raises:
        ConfigurationError: a value is wrong; the message names the variable and never shows a secret.
    """
    try:
        return Settings()
    except ValidationError as error:
        raise ConfigurationError("; ".join(_sentence(problem) for problem in error.errors())) from None
    except RecursionError:  # raised by the JSON parser, which does not say where
        names = [name for name in _variables() if is_nested_too_deeply(os.environ.get(name, ""))]
        raise ConfigurationError(f"{', '.join(names) or 'MSR_*'}: the JSON is nested too deeply") from None
    except SettingsError as error:  # its text names the field and not the variable
        name = re.search(r'field "(\w+)"', str(error))
        raise ConfigurationError(f"MSR_{name[1].upper() if name else '*'}: not valid JSON") from None


def unknown_variables() -> list[str]:
    """Returns a sentence for each variable ``MSR_…`` that is no setting, and may be misspelt."""
    known = _variables()
    sentences = []
    for name in sorted(os.environ):
        # MSR_TEST_… are the tests' own.
        if name.startswith("MSR_") and name not in known and not name.startswith("MSR_TEST_"):
            near = difflib.get_close_matches(name, known, n=1)
            sentences.append(f"{name} is not a setting" + (f"; did you mean {near[0]}?" if near else ""))
    return sentences


def _sentence(problem: object) -> str:
    assert isinstance(problem, dict)
    location = [str(part) for part in problem["loc"]]
    message = sentence(problem, {**CompatibleProvider.model_fields, **ProviderLimit.model_fields})
    if not location:
        return message
    return f"{'.'.join([_variable(location[0]), *location[1:]])}: {message}"


def _variables() -> list[str]:
    return [f"MSR_{name.upper()}" for name in Settings.model_fields]


def _variable(name: str) -> str:
    """Returns the variable that a value was read from, given the field or alias that pydantic names."""
    sdk_name = name.upper().removeprefix("MSR_")
    own_name, aliases = f"MSR_{sdk_name}", _aliases()
    # An address can be set under both names, and the one with MSR_ comes first.
    return (
        sdk_name
        if sdk_name in aliases and not (own_name in aliases and os.environ.get(own_name))
        else own_name
    )


def _aliases() -> set[object]:
    """Returns all names of the settings that can also be set under a name of the vendors' SDKs."""
    aliases = (field.validation_alias for field in Settings.model_fields.values())
    return {name for alias in aliases if isinstance(alias, AliasChoices) for name in alias.choices}
