"""Runs the offline commands: ``python -m models <command>``.

A command's module is imported when the command is called, so that reading data never waits for torch.
"""

from __future__ import annotations

import logging
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from importlib import import_module

from models.contracts import BundleError
from models.contracts.missing_packages import needed_by
from models.contracts.one_writer import BusyError
from models.errors import ModelsError

COMMANDS = {
    "data": ("models.commands.data", "read a data set and write the catalogue of a bundle"),
    "demo": ("models.commands.demo", "make the demo catalogue"),
    "captions": ("models.commands.captions", "write a bundle's captions into item2side.json"),
    "train": ("models.commands.train", "train a sequential recommender"),
    "table": ("models.commands.table", "compare recommenders with the paper's Table 1"),
    "export": ("models.commands.export", "add a trained recommender to a bundle"),
}
"""Module and one line of help of each command.

A module has ``add_arguments(parser)`` and ``run(args)``, which returns the text to print.
"""


def main(arguments: Sequence[str]) -> int:
    """Runs one command.

    Returns:
        The exit status: 0, or 2 after one sentence on stderr about what was wrong.
    """
    # Logs go to stderr: stdout holds what a command prints, for pipes.
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.INFO, stream=sys.stderr)
    if not arguments or arguments[0] not in COMMANDS:
        return _usage(arguments)
    # Inside, an import of a package that is not installed becomes one sentence about what to install.
    with needed_by(f"models {arguments[0]}", "models,features"):
        return _run(*arguments)


def _run(name: str, *rest: str) -> int:
    try:
        command = import_module(COMMANDS[name][0])
        parser = ArgumentParser(
            prog=f"python -m models {name}",
            description=command.__doc__,
            formatter_class=RawDescriptionHelpFormatter,
        )
        command.add_arguments(parser)
        print(command.run(parser.parse_args(rest)))
    except (ModelsError, BundleError, BusyError) as error:  # anything else is a bug and keeps its traceback
        return _fail(str(error))
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except KeyboardInterrupt:
        return _fail("stopped")
    return 0


def _usage(arguments: Sequence[str]) -> int:
    lines = ["usage: python -m models COMMAND …   (COMMAND --help tells more)", ""]
    lines += [f"  {name:<9} {purpose}" for name, (_, purpose) in COMMANDS.items()]
    if arguments and arguments[0] in ("-h", "--help"):
        print("\n".join(lines))
        return 0
    print("\n".join(lines), file=sys.stderr)
    return 2


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
