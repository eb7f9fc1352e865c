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

M = TypeVar("M", bound=BaseModel)

MAX_FIELDS = 32
"""Parameters that a query string may have, more than any route takes; a longer one is refused unparsed."""


def openapi_operation(query: type[BaseModel], body: type[BaseModel]) -> dict[str, Any]:
    """Returns the OpenAPI parameters and request body of an operation."""
    schema = query.model_json_schema()
    required = schema.get("required", ())
    return {
        "parameters": [
            {"name": name, "in": "query", "required": name in required, "schema": field}
            for name, field in schema["properties"].items()
        ],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": body.model_json_schema()}},
        },
    }


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
    try:
        return model.model_validate_json(await request.body())
    except ValidationError as error:
        raise _located("body", error) from None


def _located(part: str, error: ValidationError) -> RequestValidationError:
    """Returns FastAPI's form of an error, with ``query`` or ``body`` before the location of each fault."""
    # Without the input, which may be as large as the body.
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    return RequestValidationError([{**problem, "loc": (part, *problem["loc"])} for problem in problems])
