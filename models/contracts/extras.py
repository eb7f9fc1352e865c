"""Says in one sentence which package a command lacks and what installs it.

Every door (``python -m …``) runs inside ``needed_by``: what an extra brings is imported where it is used, so
its absence can show anywhere below. Of the standard library alone, since it runs where nothing is installed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

OURS = {"benchmarks", "loadtest", "models", "service"}


@contextmanager
def needed_by(command: str, extras: str = "") -> Iterator[None]:
    """End the process with status 2 and one sentence when the block lacks a package.

    A missing module of our own, of the standard library or of a package that is there is a mistake of another
    kind and passes through.

    Args:
        command: as it was typed, without ``python -m``.
        extras: of ``pyproject.toml``, comma-separated, that together hold what the command imports; none for
            the service's own dependencies.

    Raises:
        SystemExit: a package is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        name = error.name or ""
        if not name or "." in name or name in OURS or name in sys.stdlib_module_names:
            raise
        target = f"'.[{extras}]'" if extras else "."
        everything = "everything with `make test`" if extras else "try `make run`, which does so"
        sys.stderr.write(
            f"{command} needs the package {name}: install what it needs with "
            f"`pip install -c constraints.txt -e {target}`, or {everything}\n"
        )
        raise SystemExit(2) from None
