"""Starts the service: checks the settings, opens the port, then starts the simulator and the workers."""

from __future__ import annotations

import asyncio
import logging
import sys
from contextlib import suppress

from models.contracts import BundleError
from service import logs
from service.errors import ConfigurationError
from service.processes.errors import StartFailedError
from service.processes.listener import open_listeners
from service.processes.simulator import simulator_beside
from service.settings import Settings, read_settings, unknown_variables
from service.wiring.checks import check_providers, exposure_warnings, unpriced

logger = logging.getLogger("service")


def main() -> int:
    """Serves until stopped and returns the exit status.

    It is 0 after a clean stop, 2 for a wrong setting or bundle, and 1 for a port that is in use, a start that
    failed otherwise, or a stop that took too long.
    """
    try:
        return _start()
    except ConfigurationError as error:
        return _refuse(f"{error} (.env.example lists all settings)", 2)
    except BundleError as error:
        return _refuse(f"MSR_BUNDLE: {error}", 2)
    except StartFailedError as error:
        return _refuse(str(error), error.status)
    except KeyboardInterrupt:  # before the signals were taken over
        return 0


def _refuse(sentence: str, status: int) -> int:
    """Prints why the service does not start, and returns the exit status."""
    print(f"msr-serve: {sentence}", file=sys.stderr)
    return status


def _start() -> int:
    settings = read_settings()
    check_providers(settings)
    listeners = open_listeners(settings.host, settings.port)
    logs.configure(settings.log_level, settings.log_format)
    _warn(settings)
    with simulator_beside(settings) as simulator:
        if settings.workers == 1:
            from service.processes.single import serve_alone

            # Read again: the address of the simulator that was just started is in the environment.
            return serve_alone(read_settings(), listeners, simulator, _say)
        # The parent of several workers opens no bundle and loads none of what serves it.
        from service.processes.parent import Parent

        return asyncio.run(Parent(settings, listeners, simulator, _say).run())


def _say(text: str) -> None:
    with suppress(OSError):  # a reader such as `head` that has seen enough
        print(text, flush=True)


def _warn(settings: Settings) -> None:
    """Logs what the operator should know before the first request."""
    for sentence in unknown_variables():
        logger.warning(sentence)
    for sentence in settings.destinations:
        logger.info(sentence)
    for sentence in exposure_warnings(settings):
        logger.warning(sentence)
    if names := unpriced(settings):
        logger.warning(
            "no price is known for %s: %s",
            ", ".join(names),
            "not called while a budget is set (MSR_UNPRICED_CALLS=allow calls it)"
            if settings.unpriced_calls == "refuse"
            else "called, and not counted by the budget",
        )
    if settings.workers > 1 and not settings.redis_url.get_secret_value():
        logger.warning("several workers without MSR_REDIS_URL: caches are per worker")
