"""Computes how many connections the limit of open files leaves room for."""

from __future__ import annotations

import logging

LEAST_RESERVE, MOST_RESERVE = 96, 1_024
"""Descriptors kept for all else, a quarter within these bounds: Redis, SQLite, calls to providers, files, and
connections that are being closed."""

log = logging.getLogger(__name__)


def connections_possible(wanted: int) -> int:
    """Raises this process's soft limit of open files as far as needed, and returns how many connections fit.

    Args:
        wanted: number of connections of one process.

    Returns:
        ``wanted``, or less where the hard limit (``ulimit -Hn``) leaves no room for them; at least 8.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + MOST_RESERVE
    if soft == resource.RLIM_INFINITY:
        return wanted
    if soft < needed:
        raised = needed if hard == resource.RLIM_INFINITY else min(hard, needed)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
        except (OSError, ValueError):  # macOS has a lower limit of its own
            pass
    possible = max(8, soft - min(MOST_RESERVE, max(LEAST_RESERVE, soft // 4)))
    if possible < wanted:
        log.warning(
            "MSR_MAX_CONNECTIONS is %d, and the limit of open files leaves room for %d: raise it (ulimit -n)",
            wanted,
            possible,
        )
    return min(wanted, possible)
