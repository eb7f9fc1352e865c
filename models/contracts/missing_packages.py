"""Prints which package a command lacks and how to install it, in place of a traceback.

Every command (``python -m …``) runs inside ``needed_by``: the packages of an extra are imported where they
are used, so the import that fails can be anywhere below. This module needs the standard library alone, since
it runs where nothing is installed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

OURS = {"benchmarks", "loadtest", "models", "service"}


@contextmanager
def needed_by(command: str, extras: str = "") -> Iterator[None]:
    """Ends the process with status 2 and one sentence if an import in the block lacks a package.

    A missing module of the project, of the standard library or inside an installed package is another kind of
    mistake: its exception passes through.

    Args:
        command: command as it was typed, without ``python -m``.
        extras: extras of ``pyproject.toml``, comma-separated, that hold what the command imports; empty for
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
