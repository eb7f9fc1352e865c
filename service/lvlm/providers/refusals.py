"""What a server's refusal of a request says about its dialect: which field to leave out, if it names one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from service.lvlm.providers.base import Call, Image
from service.lvlm.providers.dialect import Dialect
from service.lvlm.providers.untrusted import record, sequence, text

STATUSES = frozenset({400, 404, 415, 422, 501})
"""By which a server refuses what a request holds."""

_IMAGE_STATUSES = STATUSES | {500}  # llama.cpp answers 500 when its model cannot see

_TOO_LONG = re.compile(r"context.length|too (?:long|large|many)|maximum context|exceed", re.IGNORECASE)
_COMPLAINT = re.compile(
    r"unsupported|unrecogni[sz]ed|unknown|unexpected|extra|forbidden|invalid|unavailable"
    r"|\bnot\b|n't\b|cannot|only|must be|should be|\buse\b|\bno endpoints\b",
    re.IGNORECASE,
)
_SCHEMA = re.compile(r"response_format|json_schema|output_config|output_format|guided_json|structured.output")
_USAGE = re.compile(r"stream_options|include_usage")
_DETAIL = re.compile(r"\bdetail\b")
_IMAGES = re.compile(r"\bimages?\b|image_url|image input|\bvision\b|multi-?modal|\bpictures?\b")
_SYSTEM = re.compile(r"\bsystem\b.{0,40}\b(?:role|message|prompt|instruction)|\brole\b.{0,40}\bsystem\b")
_STRING = re.compile(r"\bstring\b|string_type|valid str|\bstr type\b|\bbe a str\b")
_CONTENT_STRING = re.compile(rf"\bcontent\b.*(?:{_STRING.pattern})", re.DOTALL)

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
    for field, message in _complaints(body):
        if _TOO_LONG.search(message):
            return None
        named = field.rpartition(".")[2]
        found = _adapted(dialect, call, named, f"{named} {message}" if named else message)
        if found is not None and (status in STATUSES or found.blind != dialect.blind):
            return found
    return None


def difference(before: Dialect, after: Dialect) -> str:
    """The name of the field in which two dialects differ."""
    return next(name for name in MEASURES if getattr(before, name) != getattr(after, name))


def _adapted(dialect: Dialect, call: Call, named: str, said: str) -> Dialect | None:
    if not (named or _COMPLAINT.search(said)):
        return None
    said = said.lower()
    for applies, refusal, change in _measures(dialect, call, named):
        if applies and refusal.search(said):
            return replace(dialect, **change)
    return None


def _measures(
    dialect: Dialect, call: Call, named: str
) -> Iterator[tuple[bool, re.Pattern[str], dict[str, Any]]]:
    """What can be left out of a request, whether it was in this one, and how its refusal reads."""
    pictured = not dialect.blind and any(isinstance(part, Image) for part in call.prompt.parts)
    structured = dialect.structured_output and call.prompt.answer_schema is not None
    yield structured, _SCHEMA, {"structured_output": False}
    caps = ["max_tokens", "max_completion_tokens"]
    caps.remove(dialect.output_cap)
    yield True, re.compile(rf"\b{dialect.output_cap}\b"), {"output_cap": caps[0]}
    yield dialect.stream_options and call.stream, _USAGE, {"stream_options": False}
    yield dialect.content_parts and named == "content", _STRING, {"content_parts": False}
    yield dialect.image_detail and pictured, _DETAIL, {"image_detail": False}
    yield pictured, _IMAGES, {"images": False}
    yield dialect.content_parts, _CONTENT_STRING, {"content_parts": False}
    yield dialect.system_role, _SYSTEM, {"system_role": False}


def _complaints(body: object) -> Iterator[tuple[str, str]]:
    """Each pair of a field that is named as the culprit, if one is, and what is said about it."""
    inner = record(body).get("error", body)
    error = record(inner)
    for each in sequence(error.get("detail")):  # FastAPI and pydantic
        problem = record(each)
        place = ".".join(part for part in sequence(problem.get("loc")) if isinstance(part, str))
        yield place, f"{text(problem.get('type'))} {text(problem.get('msg'))}"
    param: Any = error.get("param")
    message = text(error.get("message")) or text(error.get("detail")) or text(inner)
    yield text(param), message[:2_000]
