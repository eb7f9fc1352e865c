"""Lists the expected outcome of each behaviour of the fake vendors, with its reason, and checks answers.

The table follows three rules. A whole ranking is served with one call, in whatever form it comes. A field
that the server refuses by name costs one more call in the life of a process. In all other cases the candidate
order is served, with an outcome that says what went wrong; another attempt is made only if the same call may
succeed a moment later.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.lab.service_client import Reply
from benchmarks.lvlm.event_stream_checks import LVLM, event_problems

STRATEGY, K = "s3", 3
"""Strategy and number of items of every request; the fake vendors rank three labels."""
ATTEMPTS = 3
"""Number of calls for one request at most, the first included (``MSR_LVLM_ATTEMPTS``)."""
REPORTED_USAGE = {"input_tokens": 100, "output_tokens": 10}
"""Usage that the fake vendors report, in behaviours that report one."""

UsageSource = Literal["reported", "estimated", "any"]
"""Source of an answer's tokens: reported by the vendor, or estimated by the service and marked so."""

_PICTURES = re.compile("image|picture", re.IGNORECASE)


@dataclass(frozen=True)
class Expectation:
    """The expected outcome of a behaviour.

    Attributes:
        outcomes: outcomes, of which any is right.
        why: reason, for the page.
        first: smallest and largest number of calls for the first request of a process.
        later: smallest and largest number of calls for a later request.
        usage: source of the tokens of a request with one call.
        refuses_pictures: whether the server refuses pictures.
        outcomes_with_events: outcomes of an event stream, if they differ because items that were already sent
            stay; empty if they do not.
    """

    outcomes: tuple[str, ...]
    why: str
    first: tuple[int, int] = (1, 1)
    later: tuple[int, int] = (1, 1)
    usage: UsageSource = "any"
    refuses_pictures: bool = False
    outcomes_with_events: tuple[str, ...] = ()

    @property
    def served(self) -> bool:
        """Whether the LVLM is expected to order the answer."""
        return "fallback" not in self.outcomes[0]


def _whole(why: str, usage: UsageSource = "reported", outcome: str = "ok") -> Expectation:
    return Expectation((outcome,), why, usage=usage)


def _refused(why: str, *, refuses_pictures: bool = False) -> Expectation:
    return Expectation(("ok",), why, first=(2, 2), refuses_pictures=refuses_pictures)


def _failed(why: str) -> Expectation:
    """Expects a failure that may be over a moment later, so that all attempts are made."""
    return Expectation(("fallback_provider",), why, (ATTEMPTS, ATTEMPTS), (ATTEMPTS, ATTEMPTS))


def _unusable(why: str) -> Expectation:
    return Expectation(("fallback_answer",), why, usage="reported")


_OURS = "the ranking as it was asked for"
_WRAPPED = "the ranking as it was asked for, with something around it that is no part of the answer"
_UNFINISHED = "no finish reason, and the text is a complete ranking"
_NO_USAGE = "a whole ranking without usage: the tokens are estimated and marked"
_OTHER_FORM = "a whole ranking in another form than the one asked for"
_FIELD = "refused by the field's name: asked again without it, once in the life of the process"
_ERROR = "an error told inside a success: tried again, then the candidate order"
_BUSY = "the server may be back in a moment: tried again, then the candidate order"

Expectations = Mapping[str, Expectation]


def _table(*lines: tuple[str, Expectation]) -> Expectations:
    # Behaviours with the same expectation share a line, separated by spaces.
    return {name: expected for names, expected in lines for name in names.split()}


_FIELDS = _table(
    ("no-schema no-max-tokens no-detail no-system", _refused(_FIELD)),
    (
        "no-images",
        _refused(
            "the server takes no pictures: asked again by title, and the answer says so",
            refuses_pictures=True,
        ),
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
        _whole(_NO_USAGE, "estimated"),
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
    ("usage-null", _whole(_NO_USAGE, "estimated")),
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
    ("usage-null", _whole(_NO_USAGE, "estimated")),
    ("no-schema", _refused(_FIELD)),
    (
        "max-tokens",
        _whole(
            "cut by the cap: what it placed is used, and the candidate order completes it",
            "reported",
            "repaired",
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
    """Looks up the expectation for a behaviour of one fake vendor, asked in one mode."""
    if wire == "anthropic":  # this fake vendor always streams
        return _ANTHROPIC.get(behaviour, NOT_IN_TABLE)
    if behaviour in _FIELDS:
        return _FIELDS[behaviour]
    if mode == "plain" and behaviour in _OPENAI_STREAM:
        return _OPENAI_PLAIN.get(behaviour, _ABOUT_STREAMS)
    return (_OPENAI_PLAIN if mode == "plain" else _OPENAI_STREAM).get(behaviour, NOT_IN_TABLE)


@dataclass(frozen=True)
class CountedReply:
    """A reply, with the number of calls that it took.

    Attributes:
        reply: reply of the service.
        calls: number of calls that the fake vendor received for it.
        with_events: whether an event stream was asked for.
    """

    reply: Reply
    calls: int
    with_events: bool

    @property
    def outcome(self) -> str:
        """Outcome of the answer; without one the status, or that there was no answer."""
        if self.reply.status not in (200, None):
            return str(self.reply.status)
        return str(self.reply.body.get("outcome", "no answer"))


def problems_with(right: Expectation, asked: Sequence[CountedReply]) -> list[str]:
    """Returns a sentence for everything that is wrong with the answers of a behaviour, in their order."""
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
    # An answer with at least one item that the LVLM placed is served by the strategy, else by none.
    if (body["served"] == STRATEGY) != bool(placed):
        yield f"served {body['served']} with {placed} items of the LVLM"
    if not calls[0] <= one.calls <= calls[1]:
        wanted = f"{calls[0]}" if calls[0] == calls[1] else f"{calls[0]} to {calls[1]}"
        yield f"{one.calls} calls instead of {wanted}"
    yield from _lvlm_problems(right, one, body["lvlm"], body["warnings"])


def _lvlm_problems(
    right: Expectation, one: CountedReply, lvlm: Mapping[str, Any], warnings: Sequence[str]
) -> Iterator[str]:
    if not all(type(lvlm[name]) is int and lvlm[name] >= 0 for name in REPORTED_USAGE):
        yield f"tokens are whole numbers, not {tokens(lvlm)}"
    if right.usage == "estimated" and not (lvlm["estimated"] and lvlm["input_tokens"] > 0):
        yield f"usage was not told, and the answer says {tokens(lvlm)}"
    if (
        right.usage == "reported"
        and one.calls == 1
        and (lvlm["estimated"] or not REPORTED_USAGE.items() <= lvlm.items())
    ):
        yield f"usage was told, and the answer says {tokens(lvlm)}"
    images = lvlm["shown"]["images"]
    # A warning about a price names the model, and a model here is called no-images.
    warned = any(_PICTURES.search(each) for each in warnings if "price" not in each)
    if right.refuses_pictures and (images or not warned):
        yield f"no pictures were seen; the answer says {images} and warns {'too' if warned else 'of nothing'}"
    if right.served and not right.refuses_pictures and not images:
        yield "the pictures were left out"


def tokens(lvlm: Mapping[str, Any]) -> str:
    """Writes input and output tokens for a table; estimates are marked with ≈."""
    return f"{'≈' if lvlm.get('estimated') else ''}{lvlm.get('input_tokens')}/{lvlm.get('output_tokens')}"
