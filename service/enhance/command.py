"""The door: two processes, so that a call that is paid for is never lost.

The parent waits, and holds one end of a pipe. The child, in a session of its own, makes the calls and writes
the captions. When the parent ends, even by SIGKILL, the child reads the end of the pipe, begins no new call,
finishes those under way, writes them down and ends.
"""

from __future__ import annotations

import argparse
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

from models.contracts import CAPTIONS, CATALOGUE, BundleError
from service.catalogue.bundle import open_catalogue
from service.enhance.backlog import AccountRefusedError, Backlog, Captioner, StoppedError
from service.enhance.run import run
from service.errors import ConfigurationError
from service.lvlm.caption_file import CaptionFile
from service.lvlm.captions import CALL_SECONDS, captioner_name
from service.settings import Settings, read_settings
from service.simulator_process import simulator_beside

INTERRUPTED = 130


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit status: 1 if an image has no caption at the end, 130 if stopped."""
    arguments = _parser().parse_args(argv)
    if arguments.work or arguments.dry_run:
        return _work(arguments)
    return _watch(argv)


def _watch(argv: Sequence[str]) -> int:
    """The parent: wait for the child, and pass an interruption on."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    terminated = signal.signal(signal.SIGTERM, interrupt)
    child = subprocess.Popen(
        [sys.executable, "-m", "service", "enhance", *argv, "--work"],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    assert child.stdin is not None
    try:
        try:
            status = child.wait()
        except KeyboardInterrupt:
            child.stdin.close()  # the child says what it does about it
            status = child.wait()
    except KeyboardInterrupt:
        child.kill()
        child.wait()
        sys.stderr.write("\nstopped at once; calls under way are lost, and the next run names them\n")
        status = INTERRUPTED
    finally:
        child.stdin.close()
        signal.signal(signal.SIGTERM, terminated)
    return status if status >= 0 else 128 - status


def _work(arguments: argparse.Namespace) -> int:
    """The child: all the work."""
    if arguments.work:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        settings = read_settings()
        captioner = _captioner(arguments, settings)
        catalogue = open_catalogue(arguments.bundle / CATALOGUE)
        folder = catalogue.folder / CAPTIONS
        path = folder / f"{captioner.name}.jsonl"
        with ExitStack() as stack:
            file = None
            if not arguments.dry_run:
                file = stack.enter_context(CaptionFile(path, patience=CALL_SECONDS, waiting=_tell_wait))
            latest = file.latest if file else CaptionFile.read(path)
            backlog = Backlog(
                catalogue, latest, file, captioner, max_output_tokens=settings.max_output_tokens
            )
            if not arguments.dry_run:
                stack.enter_context(simulator_beside(settings))
            stopped = run(backlog, folder, arguments, read_settings())
    except (ConfigurationError, BundleError, OSError) as error:
        _tell(f"enhance: {error}\n")
        return 2
    except AccountRefusedError as error:
        _tell(f"enhance: {error}: check the provider's API key, then run the same command again\n")
        return 1
    except StoppedError as error:
        _tell(f"enhance: {error}\n")
        return 1
    if stopped:
        _tell("stopped; everything written is kept, the same command goes on from here\n")
        return INTERRUPTED
    return 1 if backlog.progress.failures else 0


def _tell_wait() -> None:
    _tell("another run is writing these captions or finishing its calls: waiting for it\n")


def _tell(text: str) -> None:
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:  # the terminal has gone with the parent
        pass


def _captioner(arguments: argparse.Namespace, settings: Settings) -> Captioner:
    """Whom the arguments name.

    Raises:
        ConfigurationError: not a configured provider, or not a file-safe name.
    """
    provider, known = arguments.provider or settings.provider, settings.models
    if arguments.dry_run:  # an estimate needs no key
        keyless = settings.configured_providers(keyless=True)
        known = {name: configured.models for name, configured in keyless.items()}
    if provider not in known:
        raise ConfigurationError(f"no provider {provider!r}; configured are {', '.join(known)}")
    model = arguments.model or known[provider][0]
    name = arguments.captioner or captioner_name(provider, model)
    if not re.fullmatch(r"\w[\w.-]*", name, re.ASCII):
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
    parser.add_argument("--dry-run", action="store_true", help="say what it would take, and call nobody")
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
