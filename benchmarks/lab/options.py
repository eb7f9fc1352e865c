"""Declares and reads the command line options that several commands share."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import get_args

from benchmarks.errors import BenchmarkError
from models.contracts import BundleError
from models.contracts.service_urls import service_url
from service.catalogue.bundle import Bundle, open_bundle
from service.lvlm.contracts import Form, ImageMode, Modality
from service.settings import DEMO_BUNDLE
from service.strategies import STRATEGIES

URL = "http://127.0.0.1:8000"
"""Address under which ``make run`` serves."""

QUERY = ("backbone", "provider", "model", "modality", "image_mode", "prompt", "cache")
"""Names of the options that are passed on to the service as query parameters of the same name."""


def add_service_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options for the service's address and for the bundle that it serves."""
    parser.add_argument("--url", type=_url, default=URL, help=f"of the service (default {URL})")
    add_bundle_argument(parser)


def add_bundle_argument(parser: argparse.ArgumentParser) -> None:
    """Declares the option for the bundle; its environment variable and default are those of the service."""
    default = Path(os.environ.get("MSR_BUNDLE") or DEMO_BUNDLE)
    parser.add_argument(
        "--bundle", type=Path, default=default, help="folder that is served (default: the demo)"
    )


def add_strategy_arguments(parser: argparse.ArgumentParser, default: str, cache: str | None = None) -> None:
    """Declares the options for strategies and LVLM calls; the service decides about those not given."""
    parser.add_argument(
        "--strategies", default=default, help=f"comma-separated, or 'all' (default {default})"
    )
    parser.add_argument("--backbone", help="candidate model, by its name in the bundle")
    parser.add_argument("--provider", help="LVLM provider, by its configured name")
    parser.add_argument("--model", help="LVLM model, by the provider's name for it")
    parser.add_argument("--modality", choices=get_args(Modality), help="what the raw view shows")
    parser.add_argument("--image-mode", choices=get_args(ImageMode), help="how images are put together")
    parser.add_argument("--prompt", choices=get_args(Form), help="form of the prompt")
    parser.add_argument("--cache", choices=("use", "refresh", "off"), default=cache, help="of LVLM answers")
    parser.add_argument("--deadline-ms", type=int, help="the service's time limit for one answer")


def strategies(arguments: argparse.Namespace) -> tuple[str, ...]:
    """Reads the chosen strategies, in the given order, each once.

    Raises:
        BenchmarkError: there is no strategy of that name.
    """
    if arguments.strategies == "all":
        return tuple(STRATEGIES)
    # dict.fromkeys drops repetitions and keeps the order, unlike a set.
    names = tuple(dict.fromkeys(name.strip() for name in arguments.strategies.split(",") if name.strip()))
    for name in names:
        if name not in STRATEGIES:
            raise BenchmarkError(f"there is no strategy {name!r}: choose from {', '.join(STRATEGIES)}")
    if not names:
        raise BenchmarkError(f"no strategy was given: choose from {', '.join(STRATEGIES)}")
    return names


def lvlm_options(arguments: argparse.Namespace) -> dict[str, str]:
    """Returns the query parameters of ``POST /recommend`` that were given, without the strategy."""
    return {name: value for name in QUERY if (value := getattr(arguments, name)) is not None}


def bundle_of(arguments: argparse.Namespace) -> Bundle:
    """Opens the bundle that ``--bundle`` names.

    Raises:
        BenchmarkError: the bundle is missing or damaged.
    """
    try:
        return open_bundle(arguments.bundle)
    except BundleError as error:
        raise BenchmarkError(str(error)) from error


def _url(text: str) -> str:
    try:
        return service_url(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def positive(text: str) -> int:
    """Reads an option that is a whole number of at least 1; for argparse's ``type``."""
    # isdecimal refuses signs, spaces and underscores, which int() would take.
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive whole number")
    return int(text)
