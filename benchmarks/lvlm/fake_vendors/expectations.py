"""Says what must come of each behaviour of the fake vendors, and why; checks answers against it.

Three rules make the table. A whole ranking is served with one call, however it is wrapped. A field that the
server refuses, by name, costs one more call in the life of a process. Everything else is the candidate order,
under the name of what went wrong, and asked again only where the same call may succeed a moment later.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.lab.service_client import Reply
from benchmarks.lvlm.event_stream_checks import LVLM, event_problems

STRATEGY, K = "s3", 3
"""Strategy and items of every request; the fakes rank three labels."""
ATTEMPTS = 3
"""Calls for one request at most, the first included (``MSR_LVLM_ATTEMPTS``)."""
TOLD = {"input_tokens": 100, "output_tokens": 10}
"""Usage that the fakes report, where they report one."""

Usage = Literal["told", "estimated", "any"]
"""Whether an answer's tokens are the vendor's, or estimated and marked so."""

_PICTURES = re.compile("image|picture", re.IGNORECASE)


@dataclass(frozen=True)
class Expectation:
    """What is right for a behaviour.

    Attributes:
        outcomes: outcomes of which any is right.
        why: reason, for the page.
        first: fewest and most calls for the first request of a process.
        later: fewest and most calls for a later request.
        usage: where the tokens of a request with one call come from.
        blind: whether the server takes no pictures.
        outcomes_with_events: outcomes of an event stream where they are others, since what it has sent as the
            LVLM's stands; empty where they are not.
    """

    outcomes: tuple[str, ...]
    why: str
    first: tuple[int, int] = (1, 1)
    later: tuple[int, int] = (1, 1)
    usage: Usage = "any"
    blind: bool = False
    outcomes_with_events: tuple[str, ...] = ()

    @property
    def served(self) -> bool:
        """Whether the LVLM orders the answer."""
        return "fallback" not in self.outcomes[0]


def _whole(why: str, usage: Usage = "told", outcome: str = "ok") -> Expectation:
    return Expectation((outcome,), why, usage=usage)


def _refused(why: str, *, blind: bool = False) -> Expectation:
    return Expectation(("ok",), why, first=(2, 2), blind=blind)


def _failed(why: str) -> Expectation:
    """Expects a failure that may be over a moment later, so every attempt is made."""
    return Expectation(("fallback_provider",), why, (ATTEMPTS, ATTEMPTS), (ATTEMPTS, ATTEMPTS))


def _unusable(why: str) -> Expectation:
    return Expectation(("fallback_answer",), why, usage="told")


_OURS = "the ranking as it was asked for"
_WRAPPED = "the ranking as it was asked for, with something around it that is no part of the answer"
_UNFINISHED = "no finish reason, and the text is a complete ranking"
_UNTOLD = "a whole ranking without usage: the tokens are estimated and marked"
_OTHER_FORM = "a whole ranking in another form than the one asked for"
_FIELD = "refused by the field's name: asked again without it, once in the life of the process"
_ERROR = "an error told inside a success: tried again, then the candidate order"
_BUSY = "the server may be back in a moment: tried again, then the candidate order"

Table = Mapping[str, Expectation]


def _table(*lines: tuple[str, Expectation]) -> Table:
    # Names with the same expectation share a line.
    return {name: expected for names, expected in lines for name in names.split()}


_FIELDS = _table(
    ("no-schema no-max-tokens no-detail no-system", _refused(_FIELD)),
    (
        "no-images",
        _refused("the server takes no pictures: asked again by title, and the answer says so", blind=True),
    ),
    ("loading html-502", _failed(_BUSY)),
    (
        "redirect",
        Expectation(
            ("fallback_provider",), "a key does not follow a redirect, and trying again finds the same one"
        ),
    ),
    (
        "402",
        Expectation(
            ("fallback_provider",),
            "an account without credit stays so: not tried again, and left alone for a while",
            later=(0, 1),
        ),
    ),
)
"""Behaviours of the OpenAI-compatible fake that do not depend on the mode."""

_OPENAI_STREAM = _table(
    ("good usage-every", _whole(_OURS)),
    (
        "choices-null empty-first comments data-keepalive custom-event event-names no-space crlf model-null "
        "reasoning",
        _whole(_WRAPPED),
    ),
    ("think", _whole("a draft inside thoughts is no answer; the ranking after it is")),
    ("finish-null no-done", _whole(_UNFINISHED)),
    ("usage-floats", _whole("whole numbers written as floats", "any")),
    (
        "usage-null finish-in-content-chunk finish-odd delta-null bom two-choices utf8-split fenced lower",
        _whole(_UNTOLD, "estimated"),
    ),
    (
        "list-parts tool-calls",
        _whole("the ranking in a list of parts, or as a tool's arguments", "estimated"),
    ),
    (
        "think-bare bare",
        Expectation(("ok", "repaired"), "a bare list of labels, after thoughts too", usage="estimated"),
    ),
    ("single-quotes arrow", _whole(_OTHER_FORM, "estimated", "repaired")),
    ("error-no-type error-in-stream error-string", _failed(_ERROR)),
    (
        "choices-empty reasoning-only",
        _whole("about plain answers: asked for a stream, the fake answers as the good one"),
    ),
)

_OPENAI_PLAIN = _table(
    ("good reasoning think", _whole(_OURS)),
    ("finish-null", _whole(_UNFINISHED)),
    ("usage-null", _whole(_UNTOLD, "estimated")),
    ("list-parts tool-calls", _whole("the ranking in a list of parts, or as a tool's arguments")),
    ("choices-empty", _failed("an answer without an answer in it: tried again, then the candidate order")),
    ("reasoning-only", _unusable("thoughts are no answer, and asking again would buy the same")),
)

_ABOUT_STREAMS = _whole("about streams: asked plainly, the fake answers as the good one")

_ANTHROPIC = _table(
    ("good ping", _whole(_OURS)),
    ("thinking redacted unknown-event", _whole(_WRAPPED)),
    ("two-text", _whole("the ranking in two blocks of text")),
    ("tool-use", _whole("the ranking as a tool's arguments")),
    ("usage-null", _whole(_UNTOLD, "estimated")),
    ("no-schema", _refused(_FIELD)),
    (
        "max-tokens",
        _whole(
            "cut by the cap: what it placed is used, and the candidate order completes it", "told", "repaired"
        ),
    ),
    ("refusal empty", _unusable("nothing to use, said in an orderly way: asking again would buy the same")),
    ("pause", _unusable("a turn that pauses before the first label: nothing to use")),
    ("overloaded", _failed(_ERROR)),
    (
        "cut",
        Expectation(
            ("fallback_provider",),
            "broken off in the middle of the ranking: tried again, then the candidate order; what an event "
            "stream had told by then stands (partial)",
            (ATTEMPTS, ATTEMPTS),
            (ATTEMPTS, ATTEMPTS),
            outcomes_with_events=("partial",),
        ),
    ),
)

NOT_IN_TABLE = Expectation(
    ("ok", "repaired", "fallback_provider", "fallback_answer"),
    "not in the table: any answer that says what happened",
    first=(1, ATTEMPTS),
    later=(0, ATTEMPTS),
)


def expectation(wire: str, behaviour: str, mode: str) -> Expectation:
    """Looks up what is right for a behaviour of a wire format's fake when the service asks in a mode."""
    if wire == "anthropic":  # this fake streams, whatever was asked for
        return _ANTHROPIC.get(behaviour, NOT_IN_TABLE)
    if behaviour in _FIELDS:
        return _FIELDS[behaviour]
    if mode == "plain" and behaviour in _OPENAI_STREAM:
        return _OPENAI_PLAIN.get(behaviour, _ABOUT_STREAMS)
    return (_OPENAI_PLAIN if mode == "plain" else _OPENAI_STREAM).get(behaviour, NOT_IN_TABLE)


@dataclass(frozen=True)
class CountedReply:
    """A reply, with the calls that it took.

    Attributes:
        reply: what the service answered.
        calls: number of calls that the fake got for it.
        with_events: whether an event stream was asked for.
    """

    reply: Reply
    calls: int
    with_events: bool

    @property
    def outcome(self) -> str:
        """The outcome of the answer; without one the status or what went wrong."""
        if self.reply.status not in (200, None):
            return str(self.reply.status)
        return str(self.reply.body.get("outcome", "no answer"))


def problems_with(right: Expectation, asked: Sequence[CountedReply]) -> list[str]:
    """Lists what is wrong with the answers of a behaviour, a sentence each; the first request comes first."""
    said: dict[str, list[str]] = {}
    # The first request of a process may cost a call more.
    for number, one in enumerate(asked):
        for sentence in _reply_problems(right, one, right.later if number else right.first):
            said.setdefault(sentence, []).append("with events" if one.with_events else "without")
    return [f"{sentence} ({' and '.join(hows)})" for sentence, hows in said.items()]


def _reply_problems(right: Expectation, one: CountedReply, calls: tuple[int, int]) -> Iterator[str]:
    reply, body = one.reply, one.reply.body
    if one.with_events:
        yield from event_problems(reply.events)
    if reply.status != 200 or not body:
        yield reply.error or f"status {reply.status}"
        return
    if reply.attempts != 1:
        yield f"the service took the request only when it was sent {reply.attempts} times"
    if len({item["item_id"] for item in body["items"]}) != K or len(body["items"]) != K:
        yield f"{len(body['items'])} items instead of {K} different ones"
    outcomes = (
        right.outcomes_with_events if one.with_events and right.outcomes_with_events else right.outcomes
    )
    if one.outcome not in outcomes:
        yield f"outcome {one.outcome} instead of {' or '.join(outcomes)}"
    placed = sum(item["source"] == LVLM for item in body["items"])
    # Served says whose order it is; an answer with one item of the LVLM is the LVLM's.
    if (body["served"] == STRATEGY) != bool(placed):
        yield f"served {body['served']} with {placed} items of the LVLM"
    if not calls[0] <= one.calls <= calls[1]:
        wanted = f"{calls[0]}" if calls[0] == calls[1] else f"{calls[0]} to {calls[1]}"
        yield f"{one.calls} calls instead of {wanted}"
    yield from _lvlm_problems(right, one, body["lvlm"], body["warnings"])


def _lvlm_problems(
    right: Expectation, one: CountedReply, lvlm: Mapping[str, Any], warnings: Sequence[str]
) -> Iterator[str]:
    if not all(type(lvlm[name]) is int and lvlm[name] >= 0 for name in TOLD):
        yield f"tokens are whole numbers, not {tokens(lvlm)}"
    if right.usage == "estimated" and not (lvlm["estimated"] and lvlm["input_tokens"] > 0):
        yield f"usage was not told, and the answer says {tokens(lvlm)}"
    if right.usage == "told" and one.calls == 1 and (lvlm["estimated"] or not TOLD.items() <= lvlm.items()):
        yield f"usage was told, and the answer says {tokens(lvlm)}"
    images = lvlm["shown"]["images"]
    # A warning about a price names the model, and a model here is called no-images.
    warned = any(_PICTURES.search(each) for each in warnings if "price" not in each)
    if right.blind and (images or not warned):
        yield f"no pictures were seen; the answer says {images} and warns {'too' if warned else 'of nothing'}"
    if right.served and not right.blind and not images:
        yield "the pictures were left out"


def tokens(lvlm: Mapping[str, Any]) -> str:
    """Writes input and output tokens for a table; estimates are marked with ≈."""
    return f"{'≈' if lvlm.get('estimated') else ''}{lvlm.get('input_tokens')}/{lvlm.get('output_tokens')}"
