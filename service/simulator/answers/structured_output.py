"""Checks which JSON schemas the vendors accept for structured output, and makes values that satisfy one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]

# Keywords that Anthropic's structured outputs refuse.
_ANTHROPIC_REFUSES = (
    "maxItems", "uniqueItems", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf",
    "minLength", "maxLength", "oneOf",
)  # fmt: skip


def objection(schema: Schema) -> str | None:
    """Returns why no answer can be made for a schema, strict or not; None if one can."""
    try:
        # Making a value follows every reference that is required, and listing the nodes visits the rest.
        fit(schema, {})
        list(_nodes(schema))
    except RecursionError:
        return "the schema requires an object inside itself without end."
    except (AttributeError, IndexError, KeyError, TypeError):  # a hostile schema may hold any type anywhere
        return "the schema is not a JSON schema of objects, with references that point into it."
    return None


def openai_objection(schema: Schema) -> str | None:
    """Returns why OpenAI's strict mode refuses a schema; None if it does not."""
    if broken := objection(schema):
        return broken
    if schema.get("type") != "object":
        return f"schema must be a JSON Schema of 'type: \"object\"', got 'type: {schema.get('type')!r}'."
    for path, node in _nodes(schema):
        # OpenAI's guide "Structured Outputs", section "Supported schemas".
        for keyword in ("oneOf", "allOf", "not", "uniqueItems"):
            if keyword in node:
                return f"In context={path}, '{keyword}' is not permitted."
        if node.get("type") != "object":
            continue
        if node.get("additionalProperties") is not False:
            return f"In context={path}, 'additionalProperties' is required to be supplied and to be false."
        missing = [name for name in node.get("properties", {}) if name not in node.get("required", ())]
        if missing:
            return (
                f"In context={path}, 'required' is required to be supplied and to be an array including "
                f"every key in properties. Missing '{missing[0]}'."
            )
    return None


def anthropic_objection(schema: Schema) -> str | None:
    """Returns why Anthropic's structured output refuses a schema; None if it does not."""
    if broken := objection(schema):
        return broken
    for _, node in _nodes(schema):
        kind = node.get("type")
        if kind == "object" and node.get("additionalProperties") is not False:
            return "For 'object' type, 'additionalProperties' must be explicitly set to false"
        for keyword in _ANTHROPIC_REFUSES:
            if keyword in node:
                return f"For '{kind}' type, property '{keyword}' is not supported"
        # The one constraint on arrays that Anthropic enforces.
        if node.get("minItems", 0) not in (0, 1):
            return "For 'array' type, 'minItems' values other than 0 or 1 are not supported"
    return None


def fit(schema: Schema, proposal: Any, root: Schema | None = None) -> Any:
    """Makes the value that satisfies a schema and keeps as much of a proposal as the schema allows.

    Keys come in the schema's order, as constrained decoding writes them. Understands the subset that both
    vendors enforce: object, array, string, number, integer, boolean, null, enum, const, anyOf and local
    references.
    """
    root = schema if root is None else root
    schema = _resolve(schema, root)
    if "anyOf" in schema:
        branches = [_resolve(branch, root) for branch in schema["anyOf"]]
        return fit(next((b for b in branches if _admits(b, proposal)), branches[0]), proposal, root)
    if "const" in schema or "enum" in schema:
        allowed = schema.get("enum", [schema.get("const")])
        return proposal if proposal in allowed else allowed[0]
    match schema.get("type"):
        case "object":
            given = proposal if isinstance(proposal, Mapping) else {}
            return {
                key: fit(node, given.get(key), root) for key, node in schema.get("properties", {}).items()
            }
        case "array":
            return _fit_array(schema, proposal, root)
        case None:
            return proposal
        case kind:
            return proposal if _admits(schema, proposal) else _DEFAULTS.get(str(kind))


_DEFAULTS: Mapping[str, Any] = {"string": "", "integer": 0, "number": 0, "boolean": False}
_PYTHON_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "object": Mapping,
    "array": (list, tuple),
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}


def _fit_array(schema: Schema, proposal: Any, root: Schema) -> list[Any]:
    node = schema.get("items", {})
    resolved = _resolve(node, root)
    given = list(proposal) if isinstance(proposal, (list, tuple)) else []
    given = [value for value in given if _admits(resolved, value)][: schema.get("maxItems")]
    # Values of an enum that are not given yet fill the list up, each once.
    spare = [value for value in resolved.get("enum", ()) if value not in given] or [None]
    while len(given) < schema.get("minItems", 0):
        given.append(spare.pop(0) if len(spare) > 1 else spare[0])
    return [fit(node, value, root) for value in given]


def _admits(schema: Schema, value: Any) -> bool:
    """Returns whether a value has the type of a schema or is in its enum; its members are not checked."""
    if "enum" in schema:
        return value in schema["enum"]
    kind = _PYTHON_TYPES.get(schema.get("type", ""))
    # bool is a subclass of int in Python, and another type in JSON schema.
    if isinstance(value, bool) and schema.get("type") in ("integer", "number"):
        return False
    return kind is None or isinstance(value, kind)


def _resolve(schema: Schema, root: Schema) -> Schema:
    if "$ref" not in schema:
        return schema
    node: Any = root
    # A reference is a path from the root, such as "#/$defs/item".
    for step in filter(None, str(schema["$ref"]).removeprefix("#").split("/")):
        node = node[step]
    return _resolve(node, root)


def _nodes(schema: Schema, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Schema]]:
    """Iterates over a schema and all schemas inside it, each with its path from the root."""
    yield path, schema
    for group in ("properties", "$defs"):
        for name, node in schema.get(group, {}).items():
            yield from _nodes(node, (*path, group, name))
    if isinstance(schema.get("items"), Mapping):
        yield from _nodes(schema["items"], (*path, "items"))
    for position, node in enumerate(schema.get("anyOf", ())):
        yield from _nodes(node, (*path, "anyOf", str(position)))
