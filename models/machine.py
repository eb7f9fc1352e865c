"""Describes what a number was measured on: processor, memory, versions, commit and date."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
"""Folder of the checkout."""

PACKAGES = ("msr-serve", "numpy", "onnxruntime", "torch", "fastapi", "uvicorn")
"""Packages whose versions are named on a page of results."""


def facts() -> dict[str, Any]:
    """Collects what a reader of a number needs to know of this machine and this checkout."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        # The cores that this process may use: a container often has fewer than the machine.
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": _memory_gib(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "commit": _git("rev-parse", "HEAD"),
        # Untracked files are not counted: results that a run writes change no code.
        "dirty": bool(_git("status", "--porcelain", "--untracked-files=no")),
    }


def describe(found: dict[str, Any]) -> str:
    """Writes the facts as a short Markdown list, for the top of a results page."""
    commit = (
        f"{found['commit'][:12]}{' with local changes' if found['dirty'] else ''}"
        if found["commit"]
        else "unknown"
    )
    versions = ", ".join(f"{name} {version}" for name, version in found["packages"].items())
    return (
        f"- date: {found['date']}\n- commit: {commit}\n"
        f"- machine: {found['processor']}, {found['cores']} cores, {found['memory_gib']} GiB, "
        f"{found['system']}\n"
        f"- software: Python {found['python']}, {versions}\n"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    # On ARM there is no such line; the machine's type is all that is known.
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError):
        return None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    """Runs git and returns its output; None outside a checkout, or where git is missing."""
    try:
        done = subprocess.run(
            ("git", "-C", str(ROOT), *arguments),  # noqa: S607 - the git on the PATH is the one wanted
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
