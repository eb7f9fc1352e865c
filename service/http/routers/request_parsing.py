"""Reads query and body of a request straight into pydantic models, and describes them to OpenAPI.

FastAPI's own handling of parameters takes several times as long as the validation itself, so the route that
is called most gives query and body to the models directly. Its OpenAPI description is made from the same
models, so the two cannot differ.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from service.http.routers import large_bodies
from service.http.schemas import WHEN_TOO_MANY

M = TypeVar("M", bound=BaseModel)

SMALL_BODY = 8_192
"""Bytes up to which pydantic parses the body itself, faults and all, in 4 ms at most."""

IN_WORDS_OF_JSON = {
    "model_type": "Input should be an object",
    "dict_type": "Input should be an object",
    "list_type": "Input should be a valid array",
}
"""Messages by pydantic's type of fault, the same whether pydantic or ``large_bodies`` has parsed the body."""

MAX_FIELDS = 32
"""Parameters that a query string may have, more than any route takes; a longer one is refused unparsed."""


def openapi_operation(query: type[BaseModel] | None, body: type[BaseModel]) -> dict[str, Any]:
    """Returns the OpenAPI request body of an operation, and its parameters where it has any."""
    schema = _inlined(body.model_json_schema())
    operation: dict[str, Any] = {
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}
    }
    if query is not None:
        schema = query.model_json_schema()
        required = schema.get("required", ())
        operation["parameters"] = [
            {"name": name, "in": "query", "required": name in required, "schema": field}
            for name, field in schema["properties"].items()
        ]
    return operation


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """Returns a JSON schema with the models that it refers to in their places.

    The references are to a list in the schema itself, and the schema becomes a part of a larger document.
    """
    models = schema.pop("$defs", {})

    def inlined(part: Any) -> Any:
        if isinstance(part, list):
            return [inlined(one) for one in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            return inlined(models[part["$ref"].removeprefix("#/$defs/")])
        return {name: inlined(one) for name, one in part.items()}

    return {name: inlined(part) for name, part in schema.items()}


def read_query(request: Request, model: type[M]) -> M:
    """Returns the query string as a model, which must be frozen: equal query strings share one object.

    Raises:
        RequestValidationError: a value is wrong, unknown or given twice.
    """
    query: M = _parsed(request.scope["query_string"], model)
    return query


@lru_cache(maxsize=1_024)  # clients send few different query strings, and all values come from closed sets
def _parsed(query_string: bytes, model: type[M]) -> M:
    try:
        # latin-1 decodes any byte; percent-encoded text is decoded as UTF-8 by parse_qsl.
        pairs = parse_qsl(query_string.decode("latin-1"), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        message = f"more than {MAX_FIELDS} parameters"
        raise RequestValidationError([{"loc": ("query",), "msg": message}]) from None
    # A parameter that comes twice could mean either value, so it is refused and not chosen from.
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise RequestValidationError([{"loc": ("query", twice), "msg": "given more than once"}])
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise _located("query", error) from None


async def read_body(request: Request, model: type[M]) -> M:
    """Returns the JSON body as a model.

    Raises:
        RequestValidationError: the body is not JSON, or a value is wrong or unknown.
    """
    body = await request.body()
    try:
        if len(body) <= SMALL_BODY:
            return model.model_validate_json(body)
        return model.model_validate(large_bodies.parsed(body, model))
    except ValidationError as error:
        raise _located("body", error) from None


def _located(part: str, error: ValidationError) -> RequestValidationError:
    """Returns FastAPI's form of an error, with ``query`` or ``body`` before the location of each fault."""
    # Without the input, which may be as large as the body.
    problems = error.errors(include_url=False, include_input=False)
    return RequestValidationError(
        [{"loc": (part, *problem["loc"]), "msg": _sentence(problem)} for problem in problems]
    )


def _sentence(problem: ErrorDetails) -> str:
    """Returns pydantic's message about a fault, in words of JSON, and what to do about a long list."""
    if problem["type"] == "too_long" and problem["loc"][-1] in WHEN_TOO_MANY:
        context = problem["ctx"]
        what_to_do = WHEN_TOO_MANY[str(problem["loc"][-1])]
        return f"at most {context['max_length']} are taken, {context['actual_length']} came: {what_to_do}"
    return IN_WORDS_OF_JSON.get(problem["type"], problem["msg"])
