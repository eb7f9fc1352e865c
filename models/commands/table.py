"""Print the rows of the paper's Table 1 that need no LVLM, ours beside the paper's.

What is missing is trained within --minutes per model, in RUNS/<data set>-<configuration>. Every test target
is ranked once per configuration, and a second call prints the same table; with more minutes, runs that ended
by them go on.

  python -m models table --data beauty --minutes 20 --authors authors_cohorts.json
  python -m models table --data beauty --models pop,sasrec,morec-t --forms ours --out beauty.md
  python -m models table --data beauty --set features.text_encoder=minilm
"""

from __future__ import annotations

import logging
import shlex
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path

from models import machine
from models.atomic import write_text
from models.commands.options import add_reading_options
from models.commands.training_options import add_training_options, check_places, device_of, minutes
from models.comparison.comparison import Comparison, Measured, Place, Plan
from models.comparison.contenders import FORMS, Contender, Form, contenders, known_names
from models.comparison.page import headed, page
from models.comparison.targets import targets_of
from models.contracts.paper import table1
from models.data import registry
from models.data.dataset import Dataset
from models.errors import ModelsError
from models.evaluation.authors import AuthorsCohort, dataset_authors
from models.training.config import ConfigError

log = logging.getLogger(__name__)


class StoppedError(ModelsError):
    """The command was stopped by Ctrl-C, between two models or within one."""


def add_arguments(parser: ArgumentParser) -> None:
    """Declares the options of the command."""
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="a data set")
    parser.add_argument(
        "--minutes", type=minutes, default=20.0, help="longest training of a model (default: 20)"
    )
    parser.add_argument(
        "--forms",
        type=_forms,
        default=FORMS,
        metavar="FORM,…",
        help="paper, ours or both (default): configurations <name>-paper and <name>",
    )
    parser.add_argument(
        "--models",
        type=_names,
        default=(),
        metavar="NAME,…",
        help=f"rows, of {', '.join(known_names())} (default: all of the paper's)",
    )
    parser.add_argument(
        "--authors",
        type=Path,
        metavar="FILE",
        help="users and candidates of the paper's authors, for rows on them",
    )
    add_reading_options(parser)
    add_training_options(parser)
    parser.add_argument(
        "--refit",
        action="store_true",
        help="train graph models anew on training and validation too; a finished refit is always printed",
    )
    parser.add_argument(
        "--no-timing", action="store_true", help="leave out seconds per epoch at batch size 64"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the page to this file")


def run(args: Namespace) -> str:
    """Runs the command.

    Returns:
        The page to print.

    Raises:
        StoppedError: Ctrl-C ended it; what is trained and measured is kept.
    """
    check_places(args.runs, args.features_cache)
    _check_out(args.out)
    device = device_of(args.device)
    dataset = registry.read(args.data, None, args.pictures, args.max_left_out)
    rows = contenders(dataset, args.forms, args.models)
    authors = _authors(args, dataset)
    log.info("drawing the candidates of the test part of %s", dataset.name)
    targets = targets_of(dataset, authors)
    comparison = Comparison(
        dataset,
        targets,
        Place(args.data, args.pictures, args.runs, args.features_cache or args.runs / "features"),
        Plan(args.minutes, tuple(args.settings), device, not args.no_timing, args.refit),
    )
    lines: list[Measured] = []
    done = 0
    try:
        for number, row in enumerate(rows, 1):
            log.info("[%d of %d] %s", number, len(rows), _what(row, args.minutes))
            lines += comparison.measure(row)
            done = number
    except KeyboardInterrupt as stop:
        raise StoppedError(
            f"stopped at {rows[done].name}, row {done + 1} of {len(rows)}: what is trained is "
            f"kept in {args.runs}, and the same command goes on from there"
        ) from stop
    body = page(dataset.name, lines, targets)
    title = f"Recommenders of the paper's Table 1 without an LVLM: {dataset.name}"
    whole = headed(title, _command(args), machine.describe(machine.facts()), body)
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        write_text(args.out, whole)
    return whole.rstrip("\n")


def _check_out(out: Path | None) -> None:
    """Refuses a place for the page that is none, hours before it is written.

    Raises:
        ConfigError: it is a folder, or in something that is none.
    """
    if out is None:
        return
    nearest = next(folder for folder in out.absolute().parents if folder.exists())
    if out.is_dir() or not nearest.is_dir():
        raise ConfigError(f"--out {out} is no file, or {nearest} no folder: give the file of the page")


def _authors(args: Namespace, dataset: Dataset) -> AuthorsCohort | None:
    """Finds the users of the paper's authors, in a data set that is one of theirs."""
    if args.authors is None:
        return None
    if dataset.name not in table1()[0].percents:
        log.info("%s is no data set of the paper: --authors is not read", dataset.name)
        return None
    return dataset_authors(dataset, args.data, args.authors)


def _what(row: Contender, longest: float) -> str:
    """Says what is done for a row."""
    if row.absent:
        return f"{row.label} ({row.form}): {row.absent}"
    if row.configuration is None:
        return f"{row.label} ({row.form}): counting"
    return f"{row.label} ({row.form}): {row.name}, trained for {longest:g} minutes at most if it is not yet"


def _command(args: Namespace) -> str:
    """Writes the command as it can be typed again, without the place of its page."""
    parts = ["python", "-m", "models", "table", "--data", str(args.data), "--minutes", f"{args.minutes:g}"]
    parts += ["--forms", ",".join(args.forms)] if tuple(args.forms) != FORMS else []
    parts += ["--models", ",".join(args.models)] if args.models else []
    for setting in args.settings:
        parts += ["--set", setting]
    for option in ("authors", "pictures", "features_cache"):
        if (value := getattr(args, option)) is not None:
            parts += [f"--{option.replace('_', '-')}", str(value)]
    parts += ["--runs", str(args.runs)] if args.runs != Path("runs") else []
    parts += ["--device", args.device] if args.device != "cpu" else []
    parts += ["--refit"] if args.refit else []
    parts += ["--no-timing"] if args.no_timing else []
    return shlex.join(parts)


def _forms(text: str) -> tuple[Form, ...]:
    asked = [part.strip() for part in text.split(",")]
    chosen = tuple(form for form in FORMS if form in asked)
    if not chosen or len(chosen) != len(asked):
        raise ArgumentTypeError(f"{text} is not paper, ours or paper,ours")
    return chosen


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
