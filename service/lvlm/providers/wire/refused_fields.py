"""What a server's refusal of a request says about its dialect: which field to leave out, if it names one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from service.lvlm.providers.base import Call, Image
from service.lvlm.providers.wire.dialect import Dialect
from service.lvlm.providers.wire.untrusted_json import load, record, sequence, text

STATUSES = frozenset({400, 404, 415, 422, 501})
"""By which a server refuses what a request holds."""

_DEPTH = 4

_IMAGE_STATUSES = STATUSES | {500}  # llama.cpp answers 500 when its model cannot see

_ELSEWHERE = re.compile(
    r"context.(?:length|limit|window)|too (?:long|large|many)|longer than|less than|at least|maximum|exceed"
    r"|polic(?:y|ies)|safety|flagged|moderat|filter|blocked|quota|credit|billing|api.?key"
    r"|does not exist|decommission|not.found\b"
    # A picture that cannot be read is one of ours; another would do.
    r"|invalid.(?:image|base64|jpe?g|png)|valid image|image (?:data|file)|uploaded|base64|media type"
    r"|(?:process|identify|decod|download|load|read|fetch)(?:e|ing)? (?:an? |the )?(?:input )?images?\b"
)
"""Refusals of something else than a field: of this prompt, this picture, this account or this model."""

_LACK = re.compile(
    r"unsupported|not.support|n't support|only (?:be )?support"
    r"|not (?:been )?(?:enabled|allowed|permitted|expected)"
    r"|not (?:implemented|accepted|available|recogni[sz]ed)"
    r"|unrecogni[sz]ed|unknown|unexpected|unavailable|extra.(?:inputs|fields|forbidden)"
    r"|no endpoints|at most 0|missing data required|not a multi-?modal"
    r"|should be '?text|input should be|cannot find field"
)
"""Words by which a server says that it has no such thing."""

_SCHEMA = re.compile(
    r"response.format|json.schema|json mode|output_config|output_format|guided_json|structured.output"
)
_SCHEMA_LACK = re.compile(rf"{_LACK.pattern}|must be|invalid json schema|features not")
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
_SYSTEM_LACK = re.compile(
    r"roles must alternate|only user and assistant roles|developer (?:or system )?instruction is not"
    r"|invalid role:? '?system"
)
_STRING = re.compile(
    r"\bcontent\b.*(?:\bstring\b|string_type|valid str|str type)|sequence, expected a string"
    r"|content of type string",
    re.DOTALL,
)

MEASURES = {
    "structured_output": "the answer's JSON schema is left out",
    "output_cap": "the other name caps the answer",
    "stream_options": "streams are not asked for their usage",
    "image_detail": "pictures are sent without their detail",
    "system_role": "the system message is sent as part of the user's",
    "content_parts": "content is sent as one string, without pictures",
    "images": "pictures are left out",
}
"""Field of a dialect -> what is done once a server has refused it, in words for the log."""


def adapted(dialect: Dialect, call: Call, status: int, body: object) -> Dialect | None:
    """The dialect to try next; None unless the refusal names a field that the request had.

    Args:
        dialect: in which the request was made.
        call: what was asked.
        status: of the response.
        body: its JSON, or what the SDK made of it.
    """
    if status not in _IMAGE_STATUSES:
        return None
    for said in _complaints(body):
        said = said.lower()[:4_000]  # noqa: PLW2901
        if _ELSEWHERE.search(said):
            return None
        for applies, named, lack, change in _measures(dialect, call):
            if applies and named.search(said) and lack.search(said):
                following = replace(dialect, **change)
                return following if status in STATUSES or following.blind != dialect.blind else None
    return None


def difference(before: Dialect, after: Dialect) -> str:
    """The name of the field in which two dialects differ."""
    return next(name for name in MEASURES if getattr(before, name) != getattr(after, name))


Measure = tuple[bool, re.Pattern[str], re.Pattern[str], dict[str, Any]]


def _measures(dialect: Dialect, call: Call) -> Iterator[Measure]:
    """What can be left out: whether it was in the request, its names, what a refusal says, the change."""
    pictured = not dialect.blind and any(isinstance(part, Image) for part in call.prompt.parts)
    structured = dialect.structured_output and call.prompt.answer_schema is not None
    yield structured, _SCHEMA, _SCHEMA_LACK, {"structured_output": False}
    caps = ["max_tokens", "max_completion_tokens"]
    caps.remove(dialect.output_cap)
    yield True, re.compile(rf"\b{dialect.output_cap}\b"), _LACK, {"output_cap": caps[0]}
    yield dialect.stream_options and call.stream, _USAGE, _LACK, {"stream_options": False}
    yield dialect.image_detail and pictured, _DETAIL, _LACK, {"image_detail": False}
    yield pictured, _IMAGES, _LACK, {"images": False}
    yield dialect.content_parts, _STRING, _STRING, {"content_parts": False}
    yield dialect.system_role, _SYSTEM, _LACK, {"system_role": False}
    yield dialect.system_role, _SYSTEM_LACK, _SYSTEM_LACK, {"system_role": False}


def _complaints(body: object, depth: int = 0) -> Iterator[str]:
    """Each thing that an error says: place, code and words, wherever servers put them."""
    if depth > _DEPTH:
        return
    for each in sequence(body):  # Gemini
        yield from _complaints(each, depth + 1)
    if isinstance(body, str):
        yield text(body)
        return
    error = record(body)
    inner = [error.get(name) for name in ("error", "errors", "detail")]
    if isinstance(error.get("message"), dict):  # Mistral
        inner.append(error["message"])
    inner.append(_raw(record(error.get("metadata")).get("raw")))  # OpenRouter
    for each in inner:
        yield from _complaints(each, depth + 1)
    place = ".".join(str(part) for part in sequence(error.get("loc")))  # pydantic
    words = (error.get(name) for name in ("param", "code", "type", "message", "msg"))
    said = " ".join(filter(None, [place, *(text(word) for word in words)]))
    if said:
        yield said


def _raw(told: object) -> object:
    """What a gateway passes on of the server behind it."""
    try:
        return load(told.encode()) if isinstance(told, str) and told.isascii() else None
    except ValueError:
        return told
