"""Command ``import``: reads a shop of a million orders with ``python -m models data``, in its own process.

The orders are CSV with e-mail addresses as users, times in ISO 8601, and titles with quotes and commas. The
whole command is measured: reading, checking, and writing the catalogue of a bundle.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from benchmarks.errors import BenchmarkError
from benchmarks.lab.measured_run import MeasuredRun, run_measured
from benchmarks.lab.options import positive
from benchmarks.lab.pages import add_markdown_argument, publish
from models import machine
from models.printed_table import Table

MOST_SECONDS, MOST_MB = 60.0, 1000.0
"""Limits on a million orders, in seconds and in megabytes (10^6 bytes) of the process at its peak."""

_BLOCK = 50_000  # orders that are written at once


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("--orders", type=positive, default=1_000_000, help="default 1,000,000")
    parser.add_argument("--users", type=positive, default=100_000, help="default 100,000")
    parser.add_argument("--items", type=positive, default=50_000, help="default 50,000")
    parser.add_argument("--rounds", type=positive, default=3, help="imports (default 3)")
    add_markdown_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measures and prints; returns the exit code, 1 if a limit is broken.

    Raises:
        BenchmarkError: the command fails.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_shop(folder, arguments.orders, arguments.users, arguments.items)
        size = (folder / "orders.csv").stat().st_size / 1e6
        found = [_import(folder, folder / f"bundle-{turn}") for turn in range(arguments.rounds)]
    publish(_page(found, size, arguments), arguments.markdown)
    return int(any(each.seconds > MOST_SECONDS or each.peak_bytes / 1e6 > MOST_MB for each in found))


def write_shop(folder: Path, orders: int, users: int, items: int) -> None:
    """Writes ``orders.csv`` and ``products.csv``, the same in every run; few items have most orders."""
    draw = np.random.default_rng(0)
    start = datetime(2023, 1, 1, tzinfo=UTC)
    with (folder / "products.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("sku", "title", "category"))
        writer.writerows(
            (f"{n:08}", f'Screen {n % 40}", black, no. {n}', f"Home > Room {n % 50}") for n in range(items)
        )
    with (folder / "orders.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("order", "customer_email", "sku", "quantity", "created_at"))
        for at in range(0, orders, _BLOCK):
            count = min(_BLOCK, orders - at)
            who = draw.integers(users, size=count).tolist()
            what = np.floor(items * draw.random(count) ** 2).astype(np.int64).tolist()
            when = draw.integers(2 * 365 * 86_400, size=count).tolist()
            writer.writerows(
                (
                    at + n,
                    f"customer.{u}@example.org",
                    f"{i:08}",
                    1,
                    (start + timedelta(seconds=t)).isoformat(),
                )
                for n, (u, i, t) in enumerate(zip(who, what, when, strict=True))
            )


def _import(folder: Path, bundle: Path) -> MeasuredRun:
    command = [sys.executable, "-m", "models", "data", "--bundle", str(bundle)]
    command += ["--interactions", str(folder / "orders.csv"), "--items", str(folder / "products.csv")]
    done = run_measured(command)
    if done.status:
        raise BenchmarkError(f"the import failed: {done.errors.strip()[-500:]}")
    return done


def _page(found: Sequence[MeasuredRun], size: float, arguments: argparse.Namespace) -> str:
    table = Table(
        ("import", "seconds", "of the processor", "MB at the peak"),
        tuple(
            (str(n), f"{each.seconds:.1f}", f"{each.processor_seconds:.1f}", f"{each.peak_bytes / 1e6:.0f}")
            for n, each in enumerate(found, 1)
        ),
    )
    slowest, largest = max(each.seconds for each in found), max(each.peak_bytes / 1e6 for each in found)
    return (
        "## A shop of a million orders becomes a bundle\n\n"
        f"{machine.describe(machine.facts())}"
        f"- {arguments.orders:,} orders of {arguments.users:,} users and {arguments.items:,} items, CSV of "
        f"{size:.0f} MB\n"
        f"- command: `{arguments.command_line}`\n\n"
        f"{table.markdown()}\n"
        f"- at most {MOST_SECONDS:g} seconds: {slowest:.1f}, {_verdict(slowest <= MOST_SECONDS)}\n"
        f"- at most {MOST_MB:g} MB: {largest:.0f}, {_verdict(largest <= MOST_MB)}\n"
    )


def _verdict(met: bool) -> str:
    return "met" if met else "not met"
