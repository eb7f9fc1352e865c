"""Decides which field of a request to leave out after a server has refused it, if its error names one.

In: the dialect of the refused request, status and decoded body. Out: the next dialect to try, or None. The
vendor's prose is matched here and never passed on. Servers name fields in free text: the patterns follow the
errors of vendors, vLLM, Ollama, llama.cpp and gateways that ``test_refusal_words.py`` lists.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from service.lvlm.providers.base import Call, Image
from service.lvlm.providers.wire.dialect import Dialect
from service.lvlm.providers.wire.untrusted_json import load, record, sequence, text

STATUSES = frozenset({400, 404, 415, 422, 501})
"""HTTP statuses by which servers refuse the content of a request; others say nothing about its fields."""

_MAX_DEPTH = 4  # of nested errors that are read; gateways wrap the errors of the servers behind them

_IMAGE_STATUSES = STATUSES | {500}  # llama.cpp answers 500 when its model cannot see

_NOT_A_FIELD = re.compile(
    r"context.(?:length|limit|window)|too (?:long|large|many)|longer than|less than|at least|maximum|exceed"
    r"|polic(?:y|ies)|safety|flagged|moderat|filter|blocked|quota|credit|billing|api.?key"
    r"|does not exist|decommission|not.found\b"
    # A picture that cannot be decoded says nothing about pictures as such.
    r"|invalid.(?:image|base64|jpe?g|png)|valid image|image (?:data|file)|uploaded|base64|media type"
    r"|(?:process|identify|decod|download|load|read|fetch)(?:e|ing)? (?:an? |the )?(?:input )?images?\b"
)
"""Refusals of something other than a field: this prompt's length or content, this picture, account or model.

They are looked for first and end the search: leaving out a field would not help.
"""

_UNSUPPORTED = re.compile(
    r"unsupported|not.support|n't support|only (?:be )?support"
    r"|not (?:been )?(?:enabled|allowed|permitted|expected)"
    r"|not (?:implemented|accepted|available|recogni[sz]ed)"
    r"|unrecogni[sz]ed|unknown|unexpected|unavailable|extra.(?:inputs|fields|forbidden)"
    r"|no endpoints|at most 0|missing data required|not a multi-?modal"
    r"|should be '?text|input should be|cannot find field"
)
"""Words by which a server says that it does not support something."""

# Per field: how servers name it. Where the common words do not do, the next pattern has those that say that
# it is not supported.
_SCHEMA = re.compile(
    r"response.format|json.schema|json mode|output_config|output_format|guided_json|structured.output"
)
_SCHEMA_UNSUPPORTED = re.compile(rf"{_UNSUPPORTED.pattern}|must be|invalid json schema|features not")
_USAGE = re.compile(r"stream_options|include_usage")
_DETAIL = re.compile(r"\bdetail\b")
_IMAGES = re.compile(
    r"\bimages?\b|image_(?:url|input)|\bvision\b|multi-?modal|\bpictures?\b"
    r"|content\.\d+\.type: input should be"
)
_SYSTEM = re.compile(
    r"\bsystem\b.{0,40}\b(?:role|message|prompt|instruction)|\brole\b.{0,60}\bsystem\b"
    r"|\bsystem: extra"
)
_SYSTEM_UNSUPPORTED = re.compile(
    r"roles must alternate|only user and assistant roles|developer (?:or system )?instruction is not"
    r"|invalid role:? '?system"
)
_STRING_CONTENT = re.compile(
    r"\bcontent\b.*(?:\bstring\b|string_type|valid str|str type)|sequence, expected a string"
    r"|content of type string",
    re.DOTALL,
)

ADAPTATIONS = {
    "structured_output": "the answer's JSON schema is left out",
    "output_cap": "the other name caps the answer",
    "stream_options": "streams are not asked for their usage",
    "image_detail": "pictures are sent without their detail",
    "system_role": "the system message is sent as part of the user's",
    "content_parts": "content is sent as one string, without pictures",
    "images": "pictures are left out",
}
"""Field of a dialect -> what is done after a server has refused it, as a clause for the log."""


def adapted(dialect: Dialect, call: Call, status: int, body: object) -> Dialect | None:
    """Returns the dialect to try next; None unless the refusal names a field that the request had.

    Args:
        dialect: dialect of the refused request.
        call: call that the request was made for.
        status: HTTP status of the response.
        body: decoded JSON of the response, or its text.
    """
    if status not in _IMAGE_STATUSES:
        return None
    for message in _error_texts(body):
        message = message.lower()[:4_000]  # noqa: PLW2901 - a bound on the work of the patterns
        if _NOT_A_FIELD.search(message):
            return None
        for applies, named, lack, change in _adaptations(dialect, call):
            if applies and named.search(message) and lack.search(message):
                following = replace(dialect, **change)
                # A 500 counts only for pictures.
                return following if status in STATUSES or following.blind != dialect.blind else None
    return None


def changed_field(before: Dialect, after: Dialect) -> str:
    """Returns the name of the first field in which two dialects differ; they must differ in one."""
    return next(name for name in ADAPTATIONS if getattr(before, name) != getattr(after, name))


Adaptation = tuple[bool, re.Pattern[str], re.Pattern[str], dict[str, Any]]
"""Whether the request had the field, patterns of its name and of a refusal, and the change of the dialect."""


def _adaptations(dialect: Dialect, call: Call) -> Iterator[Adaptation]:
    """All adaptations in the order in which they are tried.

    A refusal of a picture's detail names pictures too, so that the detail comes first.
    """
    pictured = not dialect.blind and any(isinstance(part, Image) for part in call.prompt.parts)
    structured = dialect.structured_output and call.prompt.answer_schema is not None
    yield structured, _SCHEMA, _SCHEMA_UNSUPPORTED, {"structured_output": False}
    caps = ["max_tokens", "max_completion_tokens"]
    caps.remove(dialect.output_cap)
    yield True, re.compile(rf"\b{dialect.output_cap}\b"), _UNSUPPORTED, {"output_cap": caps[0]}
    yield dialect.stream_options and call.stream, _USAGE, _UNSUPPORTED, {"stream_options": False}
    yield dialect.image_detail and pictured, _DETAIL, _UNSUPPORTED, {"image_detail": False}
    yield pictured, _IMAGES, _UNSUPPORTED, {"images": False}
    yield dialect.content_parts, _STRING_CONTENT, _STRING_CONTENT, {"content_parts": False}
    yield dialect.system_role, _SYSTEM, _UNSUPPORTED, {"system_role": False}
    yield dialect.system_role, _SYSTEM_UNSUPPORTED, _SYSTEM_UNSUPPORTED, {"system_role": False}


def _error_texts(body: object, depth: int = 0) -> Iterator[str]:
    """Each text in an error body, with the place and code beside it, wherever servers put them."""
    if depth > _MAX_DEPTH:
        return
    for each in sequence(body):  # Gemini
        yield from _error_texts(each, depth + 1)
    if isinstance(body, str):
        yield text(body)
        return
    error = record(body)
    inner = [error.get(name) for name in ("error", "errors", "detail")]
    if isinstance(error.get("message"), dict):  # Mistral
        inner.append(error["message"])
    inner.append(_upstream_error(record(error.get("metadata")).get("raw")))  # OpenRouter
    for each in inner:
        yield from _error_texts(each, depth + 1)
    place = ".".join(str(part) for part in sequence(error.get("loc")))  # pydantic
    words = (error.get(name) for name in ("param", "code", "type", "message", "msg"))
    message = " ".join(filter(None, [place, *(text(word) for word in words)]))
    if message:
        yield message


def _upstream_error(raw: object) -> object:
    """The error that a gateway passes on from the server behind it, as JSON in a string or as prose."""
    try:
        return load(raw.encode()) if isinstance(raw, str) and raw.isascii() else None
    except ValueError:
        return raw
