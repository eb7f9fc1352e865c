"""Makes requests that an API description allows or forbids, and what no description foresees, as bytes.

Some are built by Schemathesis from the description. The others are put together by parts, each right or
hostile: method, path, query, headers and body. So every route of the description is tried, whatever it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any
from urllib.parse import quote

import requests
import schemathesis
from hypothesis import strategies as st
from schemathesis.core.result import Ok

from benchmarks.edge.hostile_values import (
    CONTENT_TYPES,
    HOSTILE_TEXTS,
    HOSTILE_VALUES,
    METHODS,
    ODD_BODIES,
    ODD_HEADERS,
    ODD_HOSTS,
    OTHER_PATHS,
    RAW,
)

Headers = tuple[tuple[bytes, bytes], ...]
Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class WireRequest:
    """One request as it is sent.

    Attributes:
        method: HTTP method, which decides whether the answer has a body.
        content: all bytes of the request.
        framed: whether the server can tell where it ends, so that it must be answered.
    """

    method: str
    content: bytes
    framed: bool = True


@dataclass(frozen=True)
class Vocabulary:
    """What the requests are made of.

    Attributes:
        description: OpenAPI document of the service.
        host: host and port for the ``Host`` header.
        items: item ids that exist.
        users: user ids that exist.
        backbones: names of backbones that exist.
        key: API key of the service; empty for none.
    """

    description: Schema
    host: str
    items: Sequence[str]
    users: Sequence[str]
    backbones: Sequence[str]
    key: str = ""


_TEXTS = st.sampled_from(HOSTILE_TEXTS) | st.text(max_size=40)
_JSON = st.sampled_from(HOSTILE_VALUES) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=8,
)


def wire_requests(vocabulary: Vocabulary) -> st.SearchStrategy[WireRequest]:
    """Returns a strategy for requests that are put together by parts, one in twenty of them hardly HTTP."""
    operations = [
        (path, method.upper(), operation)
        for path, methods in vocabulary.description["paths"].items()
        for method, operation in methods.items()
        # What has a body has most to be said about.
        for _ in range(4 if "requestBody" in operation else 1)
    ]

    @st.composite
    def build(draw: st.DrawFn) -> WireRequest:
        # Hypothesis tries what is simple, and what it had before, more often: parts are drawn evenly.
        even = draw(st.randoms(use_true_random=True))
        path, method, operation = even.choice(operations)
        rare = even.randint(0, 19)
        if rare == 0:
            return WireRequest(method, _hardly_http(draw, even), framed=False)
        target = _target(draw, even, vocabulary, path, operation)
        if rare == 1:
            target = even.choice(OTHER_PATHS).encode()
        if rare == 2:
            method = even.choice(METHODS)
        body = _body(draw, even, vocabulary, operation) if method != "GET" or rare == 3 else b""
        headers = _headers(even, vocabulary, body)
        return WireRequest(method, encoded(method, target, headers, body))

    return build()


def described_requests(vocabulary: Vocabulary) -> st.SearchStrategy[WireRequest]:
    """Returns a strategy for requests by Schemathesis: what the description allows, and what it forbids."""
    schema = schemathesis.openapi.from_dict(dict(vocabulary.description))
    kinds = []
    for operation in (found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)):
        kinds.append(operation.as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE))
        if operation.definition.raw.get("parameters") or operation.definition.raw.get("requestBody"):
            kinds.append(operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE))
    return st.one_of(kinds).map(lambda case: _of_case(case, vocabulary))


def _of_case(case: schemathesis.Case[Any], vocabulary: Vocabulary) -> WireRequest:
    arguments = case.as_transport_kwargs(base_url=f"http://{vocabulary.host}")
    parts = ("method", "url", "headers", "params", "data", "json", "files", "cookies")
    prepared = requests.Request(**{part: arguments[part] for part in parts if part in arguments}).prepare()
    body = prepared.body if isinstance(prepared.body, str | bytes) else b""
    headers = [(b"Host", vocabulary.host.encode()), *credentials(vocabulary)]
    for name, value in prepared.headers.items():
        if name.lower() not in ("host", "content-length", "transfer-encoding"):
            headers.append((_latin(name), _latin(value)))
    method = prepared.method or "GET"
    target = prepared.path_url.encode("utf-8", "surrogatepass")
    return WireRequest(
        method, encoded(method, target, tuple(headers), body.encode() if isinstance(body, str) else body)
    )


def _latin(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")


def encoded(method: str, target: bytes, headers: Headers, body: bytes) -> bytes:
    """Returns the bytes of an HTTP/1.1 request, with its ``Content-Length``."""
    framing: Headers = ((b"Content-Length", str(len(body)).encode()),) if body or method == "POST" else ()
    lines = b"".join(b"%b: %b\r\n" % pair for pair in (*headers, *framing))
    return b"%b %b HTTP/1.1\r\n%b\r\n%b" % (method.encode(), target, lines, body)


def credentials(vocabulary: Vocabulary) -> Headers:
    """Returns the header with the service's key; none where it has no key."""
    return ((b"Authorization", b"Bearer " + vocabulary.key.encode()),) if vocabulary.key else ()


def _hardly_http(draw: st.DrawFn, even: Random) -> bytes:
    return even.choice(RAW) if even.randrange(4) else draw(st.binary(max_size=300))


def _target(draw: st.DrawFn, even: Random, vocabulary: Vocabulary, path: str, operation: Schema) -> bytes:
    """Draws the path with its parameters, and the query."""
    query = []
    for parameter in operation.get("parameters", ()):
        name = parameter["name"]
        if parameter["in"] == "path":
            value = _text(draw(_value(vocabulary, parameter.get("schema", {}), name)))
            path = path.replace(f"{{{name}}}", _quoted(value, even.choice(("", "", "/"))))
        elif parameter["in"] == "query" and even.randint(0, 2) == 0:
            value = _text(draw(_value(vocabulary, _without_null(parameter.get("schema", {})), name)))
            query.append(f"{name}={_quoted(value)}")
    match even.randint(0, 29):
        case 0:
            query.append(f"{_quoted(draw(_TEXTS))}={_quoted(draw(_TEXTS))}")
        case 1:
            query *= 2
        case 2:
            query += ["x=y"] * even.choice((1, 40, 3_000))
        case 3:
            query.append(even.choice(("&&&", "%", "=%ff", "strategy", "strategy=", "q=" + "e+" * 120)))
        case 4:
            path += even.choice(("/", "//", "/.", "/..", "%2f", "%20", "x"))
    return (path + ("?" + "&".join(query) if query else "")).encode()


def _without_null(schema: Schema) -> Schema:
    """Returns a parameter's schema as a URL can hold it: what is null is left out there."""
    if "anyOf" not in schema:
        return schema
    return {**schema, "anyOf": [one for one in schema["anyOf"] if one.get("type") != "null"]}


def _quoted(text: str, safe: str = "") -> str:
    return quote(text.encode("utf-8", "surrogatepass"), safe=safe)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _value(vocabulary: Vocabulary, schema: Schema, name: str) -> st.SearchStrategy[Any]:
    """Returns a strategy for a value of a schema: right in fifteen of sixteen cases, else hostile."""
    right = _right(vocabulary, schema, name)
    return st.integers(0, 15).flatmap(lambda at: right if at < 15 else _TEXTS | _JSON)


def _right(vocabulary: Vocabulary, schema: Schema, name: str) -> st.SearchStrategy[Any]:
    """Returns a strategy for values that the schema allows, as far as it says so by itself."""
    if "$ref" in schema:
        return _right(vocabulary, _resolved(vocabulary, schema["$ref"]), name)
    if "anyOf" in schema:
        # What may be left out is there three times as often as it is null.
        kinds = [one for one in schema["anyOf"] for _ in range(1 if one.get("type") == "null" else 3)]
        return st.one_of([_right(vocabulary, one, name) for one in kinds])
    if "enum" in schema or "const" in schema:
        return st.sampled_from(schema.get("enum") or [schema["const"]])
    return _of_type(vocabulary, schema, name)


def _of_type(vocabulary: Vocabulary, schema: Schema, name: str) -> st.SearchStrategy[Any]:
    found: st.SearchStrategy[Any]
    match schema.get("type"):
        case "integer" | "number":
            low = int(schema.get("minimum", 0))
            high = int(schema.get("maximum", low + 100))
            found = st.sampled_from(sorted({low, min(low + 9, high), high})) | st.integers(low, high)
        case "boolean":
            found = st.booleans()
        case "null":
            found = st.none()
        case "array":
            found = st.lists(_right(vocabulary, schema.get("items", {}), name), min_size=1, max_size=8)
            if name in _ITEM_LISTS:
                found = found | st.lists(_known(vocabulary, name), min_size=1, max_size=40)
        case "object":
            found = _object(vocabulary, schema)
        case _:
            found = _known(vocabulary, name)
    return found


_ITEM_LISTS = ("history", "candidates", "exclude")


def _known(vocabulary: Vocabulary, name: str) -> st.SearchStrategy[str]:
    """Returns a strategy for texts that mean something under this name: ids that exist, or words."""
    if "user" in name:
        return st.sampled_from(vocabulary.users) | st.integers(0, 500).map("new-{}".format)
    if "item" in name or name in (*_ITEM_LISTS, "after"):
        return st.sampled_from(vocabulary.items)
    named = {
        "backbone": vocabulary.backbones,
        "provider": ("simulator", "simulator-anthropic"),
        "model": ("sim-gpt-4o", "sim-gpt-4v"),
    }
    return st.sampled_from(named.get(name, ("red", "a", "te", "mug lamp", "e1", "e2")))


def _object(vocabulary: Vocabulary, schema: Schema) -> st.SearchStrategy[dict[str, Any]]:
    # A body without a user is refused as a whole, and says nothing about its other fields.
    required = (*schema.get("required", ()), "user_id")
    values = {name: _value(vocabulary, inner, name) for name, inner in schema.get("properties", {}).items()}
    return st.fixed_dictionaries(
        {name: value for name, value in values.items() if name in required},
        optional={name: value for name, value in values.items() if name not in required},
    )


def _resolved(vocabulary: Vocabulary, reference: str) -> Schema:
    found: Any = vocabulary.description
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    resolved: Schema = found
    return resolved


def _body(draw: st.DrawFn, even: Random, vocabulary: Vocabulary, operation: Schema) -> bytes:
    """Draws a body: JSON of the operation's schema, any JSON, or what is no JSON."""
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    match even.randint(0, 11):
        case 0:
            return even.choice(ODD_BODIES) if even.randrange(4) else draw(st.binary(max_size=200))
        case 1:
            return _json(draw(_JSON))
        case 2:
            whole = _json(draw(_right(vocabulary, content.get("schema", {}), "")))
            at = even.randint(0, len(whole))
            return whole[:at] + draw(st.binary(max_size=3)) + whole[at + even.randint(0, 2) :]
        case _:
            return _json(draw(_right(vocabulary, content.get("schema", {}), "")))


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()  # NaN and lone surrogates included, which a strict encoder refuses


def _headers(even: Random, vocabulary: Vocabulary, body: bytes) -> Headers:
    headers = [(b"Host", vocabulary.host.encode()), *credentials(vocabulary)]
    if body:
        headers.append((b"Content-Type", b"application/json"))
    match even.randint(0, 19):
        case 0:
            headers[0] = (b"Host", even.choice(ODD_HOSTS))
        case 1:
            headers = [pair for pair in headers if pair[0] != b"Content-Type"]
            headers.append((b"Content-Type", even.choice(CONTENT_TYPES)))
        case 2:
            headers = [pair for pair in headers if pair[0] != b"Authorization"]
        case 3 | 4:
            for name in even.choices(sorted(ODD_HEADERS), k=even.randint(1, 3)):
                headers.append((name, even.choice(ODD_HEADERS[name])))
        case 5 | 6:
            headers.append((b"Accept", b"text/event-stream"))
    return tuple(headers)
