"""Words what is wrong with a setting as a sentence that says what to do. No sentence shows the value."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Mapping
from typing import Any


def sentence(problem: Mapping[str, Any], options: Collection[str]) -> str:
    """Returns the sentence about a problem that pydantic found.

    Args:
        problem: one of ``ValidationError.errors()``.
        options: names of all options, from which a misspelt one is guessed.
    """
    kind, message = str(problem["type"]), str(problem["msg"]).removeprefix("Value error, ")
    if kind == "extra_forbidden":
        return _no_option(str(problem["loc"][-1]), options)
    return _SENTENCES.get(kind, message)


def is_nested_too_deeply(text: str) -> bool:
    """Returns whether a JSON text nests deeper than the parser follows."""
    try:
        json.loads(text)
    except RecursionError:
        return True
    except ValueError:
        pass
    return False


def _no_option(name: str, options: Collection[str]) -> str:
    if name == "api_key":
        return "no option: put the key into an environment variable and its name into 'api_key_variable'"
    near = difflib.get_close_matches(name, options, n=1)
    return f"no option: {f'did you mean {near[0]!r}?' if near else 'leave it out'}"


_OBJECT = 'must be a JSON object: {"name": …}'
_SENTENCES = {
    "dict_type": _OBJECT,
    "missing": "is missing and must be set",
    "model_attributes_type": _OBJECT,
    "model_type": _OBJECT,
    "string_pattern_mismatch": "must begin with a small letter and hold at most 32 of a-z, 0-9, '_' and '-'",
    "string_too_short": "must not be empty",
    "string_type": "must be a text in double quotes",
    "too_short": "must name at least one",
    "tuple_type": 'must be a JSON list: ["name", …]',
}
