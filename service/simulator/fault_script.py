"""Reads a script of faults from its JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from service.simulator.faults import NAMES, Fault, Phase, Script

_MIN_REPEAT = 0.01
"""Seconds that repeated phases take together at least; shorter ones are refused, since ``FaultInjector``
would pass from one to the next without end."""


class ScriptError(Exception):
    """A script of faults is wrong; the message names the field."""


def read_script(content: Any) -> Script:
    """Reads a script from its JSON.

    Raises:
        ScriptError: a field is unknown or wrong.
    """
    # Every field is checked: a misspelt fault would otherwise test nothing.
    known = _fields(content, "the script", Script)
    script = Script(
        **{name: value for name, value in known.items() if name not in ("phases", "by_model")},
    )
    phases = tuple(_phase(each, f"phases[{i}]") for i, each in enumerate(_list(known, "phases")))
    named = _object(known.get("by_model", {}), "by_model")
    by_model = {model: _fault(each, f"by_model.{model}") for model, each in named.items()}
    for name in ("capacity", "requests_per_minute", "tokens_per_minute"):
        value = getattr(script, name)
        if value is not None and not _is_number(value, least=1):
            raise ScriptError(f"{name} is a number of at least 1 or null, not {value!r}")
    if not _is_number(script.slow_per_call, least=0):
        raise ScriptError(f"slow_per_call is a number of seconds, not {script.slow_per_call!r}")
    if script.repeat and phases and _length(phases) < _MIN_REPEAT:
        raise ScriptError(f"phases that repeat take at least {_MIN_REPEAT:g} seconds together")
    return replace(script, phases=phases, by_model=by_model)


def _length(phases: Sequence[Phase]) -> float:
    """Sums up the seconds of the phases; infinity where a phase waits for calls."""
    return sum(float("inf") if phase.seconds is None else phase.seconds for phase in phases)


def _phase(content: Any, where: str) -> Phase:
    content = _object(content, where)
    # A phase and its fault are one JSON object; these fields belong to the phase.
    timing = {name: content[name] for name in ("rate", "calls", "seconds", "models") if name in content}
    rest = {name: value for name, value in content.items() if name not in timing}
    # {"fault": null} is a healthy phase.
    fault = None if rest.get("fault") is None else _fault(rest, where)
    if fault is None and set(rest) - {"fault"}:
        raise ScriptError(f"{where}: {sorted(set(rest) - {'fault'})[0]} belongs to a fault")
    for name, least in (("calls", 1), ("seconds", 0)):
        if timing.get(name) is not None and not _is_number(timing[name], least=least):
            raise ScriptError(f"{where}.{name} is a number of at least {least}, not {timing[name]!r}")
    rate = timing.get("rate", 1.0)
    if not _is_number(rate, least=0) or rate > 1:
        raise ScriptError(f"{where}.rate is a share from 0 to 1, not {rate!r}")
    models = timing.get("models", [])
    if not isinstance(models, list) or not all(isinstance(model, str) for model in models):
        raise ScriptError(f"{where}.models is a list of names")
    return Phase(fault, rate, timing.get("calls"), timing.get("seconds"), tuple(models))


def _fault(content: Any, where: str) -> Fault:
    content = _object(content, where)
    name = content.get("fault")
    if name not in NAMES:
        raise ScriptError(f"{where}.fault is {name!r}; known are {', '.join(NAMES)}")
    unknown = set(content) - {"fault", "retry_after", "delay"}
    if unknown:
        raise ScriptError(f"{where} has the unknown field {sorted(unknown)[0]}")
    for field_name in ("retry_after", "delay"):
        value = content.get(field_name)
        if value is not None and not _is_number(value, least=0):
            raise ScriptError(f"{where}.{field_name} is a number of seconds, not {value!r}")
    return Fault(name, content.get("retry_after"), content.get("delay", 3.0))


def _fields(content: Any, where: str, kind: type) -> dict[str, Any]:
    known = _object(content, where)
    unknown = set(known) - set(kind.__slots__)  # type: ignore[attr-defined]
    if unknown:
        raise ScriptError(f"{where} has the unknown field {sorted(unknown)[0]}")
    return known


def _object(content: Any, where: str) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise ScriptError(f"{where} is a JSON object")
    return content


def _list(content: Mapping[str, Any], name: str) -> Sequence[Any]:
    value = content.get(name, [])
    if not isinstance(value, list):
        raise ScriptError(f"{name} is a list")
    return value


def _is_number(value: object, least: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value < float("inf")
