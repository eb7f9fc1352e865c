"""What describing a backlog would take, said before a cent is spent."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from service.enhance.backlog import Backlog, NoCaptionError, Rows
from service.lvlm.bill import Bill
from service.lvlm.gateway import Gateway

SAMPLED = 100
"""Images that an estimate looks at."""

ASSUMED_SECONDS = 3.0
"""Per call, for the estimate of the time."""


async def tell_estimate(
    backlog: Backlog, waiting: Sequence[Rows], gateway: Gateway, *, concurrency: int, batch_share: float
) -> None:
    """Say tokens, cost and time.

    Args:
        backlog: of the captioner.
        waiting: its images.
        gateway: knows what a call takes.
        concurrency: calls at a time.
        batch_share: of the price, that a batch costs.
    """
    tell, images, captioner = backlog.progress.tell, len(waiting), backlog.captioner
    tell(f"{images} images to describe with {captioner.provider}/{captioner.model}")
    each = await _mean(backlog, waiting, gateway)
    if each is None:
        return
    _tell_one(each, tell)
    if each.cost_usd is not None:
        total = each.cost_usd * images
        tell(f"estimated cost: ${total:.4f}; with --batch ${batch_share * total:.4f}")
    minutes = images * ASSUMED_SECONDS / concurrency / 60
    tell(
        f"about {minutes:.0f} minutes, {concurrency} calls at a time of {ASSUMED_SECONDS:g} s each; "
        "with --batch within a day"
    )


async def _mean(backlog: Backlog, waiting: Sequence[Rows], gateway: Gateway) -> Bill | None:
    """What one image takes, the mean over some of them; None if none can be read."""
    bills = []
    for rows in waiting[:: max(1, len(waiting) // SAMPLED)]:
        try:
            bills.append(gateway.expected(backlog.captioner.provider, await backlog.call(rows)))
        except NoCaptionError:
            continue
    return sum(bills[1:], bills[0]).mean(len(bills)) if bills else None


def _tell_one(each: Bill, tell: Callable[[str], None]) -> None:
    usage = each.usage
    tell(
        f"estimated per image: {usage.input_tokens} input tokens ({usage.image_tokens} for the picture), "
        f"{usage.output_tokens} output tokens"
    )
