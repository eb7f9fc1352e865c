"""Estimates the tokens, dollars and minutes that describing a backlog takes, without a call."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from service.captioning.backlog import Backlog, ImageRows, NoCaptionError
from service.lvlm.bill import Bill
from service.lvlm.calls.gateway import Gateway

MAX_SAMPLED = 100
"""Images, evenly spread over a longer backlog, from which an estimate is made; up to 199, since the stride is
rounded down."""

ASSUMED_SECONDS = 3.0
"""Seconds that a call is taken to last, for the estimate of the time."""


async def report_estimate(
    backlog: Backlog, pending: Sequence[ImageRows], gateway: Gateway, *, concurrency: int, batch_share: float
) -> None:
    """Estimates what describing the images takes, and writes it to the standard error.

    Args:
        backlog: backlog of the captioner.
        pending: images of the backlog to describe.
        gateway: estimator of a call's tokens and cost.
        concurrency: calls at a time, at least 1.
        batch_share: share of the ordinary price that a batch costs, 0 to 1.
    """
    report, images, captioner = backlog.progress.report, len(pending), backlog.captioner
    report(f"{images} images to describe with {captioner.provider}/{captioner.model}")
    each = await _mean(backlog, pending, gateway)
    if each is None:  # nothing to describe, or nothing that can be read
        return
    _report_one(each, report)
    if each.cost_usd is not None:
        total = each.cost_usd * images
        report(f"estimated cost: ${total:.4f}; with --batch ${batch_share * total:.4f}")
    minutes = images * ASSUMED_SECONDS / concurrency / 60
    report(
        f"about {minutes:.0f} minutes, {concurrency} calls at a time of {ASSUMED_SECONDS:g} s each; "
        "with --batch within a day"
    )


async def _mean(backlog: Backlog, pending: Sequence[ImageRows], gateway: Gateway) -> Bill | None:
    """Returns the mean bill of one image over a sample; None if no image of the sample can be read."""
    bills = []
    # Pictures are read, since a vendor bills them by their size.
    for rows in pending[:: max(1, len(pending) // MAX_SAMPLED)]:
        try:
            bills.append(gateway.expected(backlog.captioner.provider, await backlog.call(rows)))
        except NoCaptionError:
            continue
    return sum(bills[1:], bills[0]).mean(len(bills)) if bills else None


def _report_one(each: Bill, report: Callable[[str], None]) -> None:
    usage = each.usage
    report(
        f"estimated per image: {usage.input_tokens} input tokens ({usage.image_tokens} for the picture), "
        f"{usage.output_tokens} output tokens"
    )
