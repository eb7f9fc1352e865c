"""Runs the command ``python -m service enhance`` in two processes, so that no paid call is lost.

The parent only waits for the child, and holds one end of a pipe. The child, in a session of its own, makes
the calls and writes the captions. When the parent ends, even by SIGKILL, the pipe is closed: the child begins
no new call, finishes those under way, writes their captions and ends.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

from models.contracts import CATALOGUE, BundleError
from models.contracts.captions import CaptionFile, caption_path, read_captions
from models.contracts.names import is_captioner_name
from models.contracts.one_writer import BusyError, no_writer
from service.captioning.backlog import AccountRefusedError, Backlog, Captioner, StoppedError
from service.captioning.run import run
from service.catalogue.bundle import open_catalogue
from service.errors import ConfigurationError
from service.lvlm.captions import CALL_TIMEOUT, captioner_name
from service.processes.simulator import simulator_beside
from service.settings import Settings, read_settings

INTERRUPTED = 130
"""Exit status of a run that was stopped before its end, the same as shells have for SIGINT (128 + 2)."""


def main(argv: Sequence[str]) -> int:
    """Runs the command.

    Args:
        argv: options of the command line.

    Returns:
        Exit status: 0 if all went well; 1 if an image has no caption or the run ended early; 2 for a wrong
        argument, setting or bundle; 130 if the run was stopped.
    """
    arguments = _parser().parse_args(argv)
    if arguments.work or arguments.dry_run:
        return _work(arguments)
    return _run_child(argv)


def _run_child(argv: Sequence[str]) -> int:
    """Starts the child, waits for it and passes interruptions on; the parent does nothing else.

    The first interruption (SIGINT or SIGTERM) lets calls under way finish; the second kills the child.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    child = subprocess.Popen(
        [sys.executable, "-m", "service", "enhance", *argv, "--work"],
        stdin=subprocess.PIPE,
        start_new_session=True,  # a Ctrl-C in the terminal goes to the parent alone
    )
    assert child.stdin is not None
    try:
        try:
            status = child.wait()
        except KeyboardInterrupt:
            child.stdin.close()  # the sign for the child to stop
            status = child.wait()
    except KeyboardInterrupt:
        child.kill()
        child.wait()
        sys.stderr.write("\nstopped at once; calls under way are lost, and the next run names them\n")
        status = INTERRUPTED
    finally:
        child.stdin.close()
        signal.signal(signal.SIGTERM, previous)
    return status if status >= 0 else 128 - status  # Popen has -n for signal n, shells 128 + n


def _work(arguments: argparse.Namespace) -> int:
    """Does the work of the child and returns the exit status."""
    if arguments.work:
        # A terminal that is closed sends SIGHUP; the child finishes its calls all the same.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        settings = read_settings()
        captioner = _captioner(arguments, settings)
        folder = arguments.bundle / CATALOGUE
        path = caption_path(folder, captioner.name)
        with ExitStack() as stack:
            # While captions are written nothing may replace the catalogue that they go into.
            stack.enter_context(no_writer(folder))
            catalogue = open_catalogue(folder)
            file = None
            if not arguments.dry_run:
                # The child of a killed run may still be finishing its calls, for up to the timeout of a call.
                file = stack.enter_context(CaptionFile(path, patience=CALL_TIMEOUT, waiting=_report_wait))
            latest = file.latest if file else read_captions(path)
            backlog = Backlog(
                catalogue, latest, file, captioner, max_output_tokens=settings.max_output_tokens
            )
            if not arguments.dry_run:
                stack.enter_context(simulator_beside(settings))
            # Read again: the address of the simulator that was just started is in the environment.
            stopped = run(backlog, path.parent, arguments, read_settings())
    except (ConfigurationError, BundleError, BusyError, OSError) as error:
        _report(f"enhance: {error}\n")
        return 2
    except AccountRefusedError as error:
        _report(f"enhance: {error}: check the provider's API key, then run the same command again\n")
        return 1
    except StoppedError as error:
        _report(f"enhance: {error}\n")
        return 1
    if stopped:
        _report("stopped; everything written is kept, the same command goes on from here\n")
        return INTERRUPTED
    return 1 if backlog.progress.failures else 0


def _report_wait() -> None:
    _report("another run is writing these captions or finishing its calls: waiting for it\n")


def _report(text: str) -> None:
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:  # the terminal closed with the parent
        pass


def _captioner(arguments: argparse.Namespace, settings: Settings) -> Captioner:
    """Chooses the captioner that the arguments name, else the default one.

    Raises:
        ConfigurationError: the provider is not configured, or the captioner's name is no file name.
    """
    provider, known = arguments.provider or settings.provider, settings.models
    if arguments.dry_run:  # an estimate needs no key
        keyless = settings.configured_providers(keyless=True)
        known = {name: configured.models for name, configured in keyless.items()}
    if provider not in known:
        raise ConfigurationError(f"no provider {provider!r}; configured are {', '.join(known)}")
    model = arguments.model or known[provider][0]
    name = arguments.captioner or captioner_name(provider, model)
    if not is_captioner_name(name):
        raise ConfigurationError(f"the captioner {name!r} names a file: letters, digits, '.', '_' and '-'")
    return Captioner(provider, model, name)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m service enhance",
        description="Describe every item image of a bundle with an LVLM. Captions are appended to "
        "catalogue/captions/<captioner>.jsonl as they come; images that have one are left alone, so the same "
        "command goes on where an earlier run stopped, however it stopped, and pays for nothing twice.",
    )
    parser.add_argument("--bundle", type=Path, required=True, help="the folder that holds catalogue/")
    parser.add_argument("--provider", help="a configured provider; default: MSR_PROVIDER")
    parser.add_argument("--model", help="any of its models; default: its first configured one")
    parser.add_argument("--captioner", help="name of the file; default: <provider>-<model>")
    parser.add_argument("--limit", type=_positive, help="caption at most this many images now")
    parser.add_argument("--concurrency", type=_positive, default=4, help="calls at a time; default: 4")
    parser.add_argument("--budget-usd", type=_dollars, help="for this run: no call begins that could pass it")
    parser.add_argument(
        "--batch",
        action="store_true",
        help="hand everything in at the provider's batch API: half the price, within a day; run the same "
        "command again to fetch what was not waited for",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what it would take, without a call")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return number


def _dollars(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a sum of money")
    return number
