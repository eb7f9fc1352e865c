"""Logs, in one line, what became of a reload."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from service.processes.control_channel import Reloaded

logger = logging.getLogger("service.processes")


def report(reloaded: Sequence[Reloaded]) -> None:
    """Logs the outcome of a reload.

    Args:
        reloaded: answer of each worker that was asked, at least one; the last one refused if any did.
    """
    last = reloaded[-1]
    versions = sorted({each.version for each in reloaded if each.version})
    if last.version is not None:
        logger.info("the bundle was opened anew: version %s is served", ", ".join(versions))
    elif versions:
        logger.error(
            "the bundle was opened anew by %d workers, then refused: %s; they serve version %s, the others "
            "the one before: put a whole bundle there and send SIGHUP again",
            len(reloaded) - 1,
            last.sentence,
            ", ".join(versions),
        )
    else:
        logger.error("the bundle on the disk is refused, the one before is served on: %s", last.sentence)
