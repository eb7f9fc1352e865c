"""The command line ``python -m benchmarks COMMAND``: imports the module of the chosen command and runs it."""

from __future__ import annotations

import argparse
import importlib
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.errors import BenchmarkError
from models.contracts.missing_packages import needed_by


@dataclass(frozen=True)
class Command:
    """A subcommand: where its code is, its help and what it needs.

    Attributes:
        module: dotted name of a module with ``add_arguments(parser)`` and ``run(arguments) -> exit code``.
        what: help text, a sentence without capital and full stop.
        extras: extras of the installation that the module's imports need, comma-separated.
    """

    module: str
    what: str
    extras: str = "benchmarks"


COMMANDS: Mapping[str, Command] = {
    "replay": Command(
        "benchmarks.paper.replay",
        "ask a running service the leave-one-out questions of a bundle, one JSON line per answer",
    ),
    "score": Command(
        "benchmarks.paper.score_tables",
        "turn the records of replays into tables of accuracy, repairs and time",
    ),
    "efficiency": Command(
        "benchmarks.paper.efficiency",
        "seconds per user of each strategy, by the client and by the service's own histograms",
    ),
    "candidates": Command(
        "benchmarks.speed.candidate_generation",
        "candidate generation: ours beside torch eager and a plain ONNX export of the whole model",
        "benchmarks,models",
    ),
    "graph": Command(
        "benchmarks.speed.graph_candidates",
        "candidates of a graph backbone beside those of SASRec, in milliseconds per user",
        "benchmarks,models",
    ),
    "training": Command(
        "benchmarks.training.command",
        "an epoch of training beside the usual way to write it, with equal losses",
        "benchmarks,models",
    ),
    "http": Command(
        "benchmarks.speed.http_overhead",
        "requests per second and latency of the service beside a bare app that runs the same model",
    ),
    "import": Command(
        "benchmarks.files.table_import",
        "a shop of a million orders becomes a bundle: seconds and memory of `python -m models data`",
    ),
    "crowd": Command(
        "benchmarks.lvlm.crowd",
        "many clients at once on a slow LVLM: answers in time, memory, calls",
    ),
    "cost": Command(
        "benchmarks.paper.cost",
        "what 1,000 users cost by strategy, prompt form and model, before a call is made",
    ),
    "forms": Command(
        "benchmarks.lvlm.prompt_forms",
        "the label form beside the paper's: output tokens, seconds per user, pixels per item",
    ),
    "stage": Command(
        "benchmarks.lvlm.stage_time",
        "the LVLM stage's own time, and its provider call beside the bare SDK's",
    ),
    "places": Command(
        "benchmarks.lvlm.concurrency_limit",
        "the adaptive limit of calls beside fixed ones, on a provider that bears only so many",
    ),
    "hedges": Command(
        "benchmarks.lvlm.hedging",
        "second attempts beside slow first ones: answers in time, and what they cost",
    ),
    "faults": Command(
        "benchmarks.lvlm.faults.command",
        "whatever can go wrong at a provider: outcomes, lateness, our books and the simulator's",
    ),
    "behaviours": Command(
        "benchmarks.lvlm.fake_vendors.behaviours",
        "whatever servers send: outcome, calls and tokens of every behaviour of the fake vendors",
    ),
    "endless": Command(
        "benchmarks.lvlm.endless.command",
        "providers that never end: the service's memory, and its other answers meanwhile",
    ),
    "fuzz": Command(
        "benchmarks.edge.fuzz",
        "a hundred thousand generated requests: no error but the contract's, and memory that stays flat",
        "benchmarks,dev",
    ),
    "files": Command(
        "benchmarks.files.command",
        "odd, damaged and hostile data sets, pictures and bundles: what becomes of each, in a sentence",
        "benchmarks,models",
    ),
    "budget": Command(
        "benchmarks.lvlm.fake_vendors.budget",
        "what stays reserved of a budget after many requests of every behaviour of the fake vendors",
    ),
    "kept": Command(
        "benchmarks.edge.events_kept",
        "kills the service's processes while events come, and fills its disk: is any event lost",
    ),
    "hostile": Command(
        "benchmarks.edge.hostile",
        "ten clients that mean ill beside good ones: the service's memory, and what the good ones notice",
    ),
    "rolling": Command(
        "benchmarks.edge.rolling_restarts",
        "services that are stopped and started under load, behind a proxy and directly: failed requests",
    ),
    "compare": Command(
        "benchmarks.speed.compare_commits",
        "this work tree beside another commit, measured in turns: is anything slower",
        "benchmarks,models",
    ),
}
"""Every subcommand by its public name.

The names are older than the files: ``hedges`` is in ``hedging``, ``places`` in ``concurrency_limit``. ``make
compare`` runs older commits by these names too, so they stay.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one subcommand and returns the exit code.

    It is 0 when all is well, 1 when something failed or broke a limit, 2 when nothing could be measured, and
    130 when it was interrupted.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    name = arguments[0] if arguments else ""
    with needed_by(f"benchmarks {name}", COMMANDS[name].extras if name in COMMANDS else "benchmarks"):
        return _run(name, arguments)


def _run(chosen: str, arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure accuracy and efficiency of a live service."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, described in COMMANDS.items():
        what = described.what
        command = commands.add_parser(name, help=what, description=what[0].upper() + what[1:] + ".")
        if name == chosen:  # only its module is imported: ``score`` never waits for torch
            # As the service sets it for itself: numpy's BLAS counts the host's cores, and reads this once.
            os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
            module = importlib.import_module(described.module)
            module.add_arguments(command)
            given = shlex.join(["python", "-m", "benchmarks", *arguments])
            # The page of results shows the command as it was typed, so that a reader can repeat it.
            command.set_defaults(run=module.run, command_line=given)
    options = parser.parse_args(arguments)
    try:
        code: int = options.run(options)
    except BenchmarkError as error:
        print(f"benchmarks {chosen}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        # Records are flushed line by line, so an interrupt loses at most the answers that were under way.
        print(f"benchmarks {chosen}: stopped; nothing that was recorded is lost", file=sys.stderr)
        return 130
    return code


if __name__ == "__main__":
    sys.exit(main())
