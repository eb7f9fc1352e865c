"""Starts the service: checks the settings, then starts the simulator (if it is in use) and the workers."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from uvicorn.config import STARTUP_FAILURE

from models.contracts import BundleError
from service import logs
from service.catalogue.bundle import Bundle, open_bundle
from service.errors import ConfigurationError
from service.metrics import MULTIPROCESS_VARIABLE
from service.settings import Settings, read_settings, unknown_variables
from service.simulator_process import simulator_beside
from service.wiring.checks import check, unpriced
from service.wiring.server import listeners, worker_config

logger = logging.getLogger("service")


def main() -> int:
    """Serves until stopped and returns the exit status: 2 for a wrong setting."""
    try:
        settings = read_settings()
        bundle = open_bundle(settings.bundle)
        check(settings, bundle)
    except ConfigurationError as error:
        return _refuse(f"{error} (.env.example lists all settings)")
    except BundleError as error:
        return _refuse(f"MSR_BUNDLE: {error}")
    logs.configure(settings.log_level, settings.log_format)
    for sentence in unknown_variables():
        logger.warning(sentence)
    for sentence in settings.destinations:
        logger.info(sentence)
    if names := unpriced(settings):
        logger.warning(
            "no price is known for %s: %s",
            ", ".join(names),
            "not called while a budget is set (MSR_UNPRICED_CALLS=allow calls it)"
            if settings.unpriced_calls == "refuse"
            else "called, and not counted by the budget",
        )
    if settings.workers > 1 and not settings.redis_url.get_secret_value():
        logger.warning(
            "several workers without MSR_REDIS_URL: POST /events answers 503, caches are per worker"
        )
    try:
        with _metrics_folder(settings), simulator_beside(settings):
            _serve(settings, bundle)
    except ConfigurationError as error:
        return _refuse(str(error))
    except KeyboardInterrupt:
        pass
    return 0


def _refuse(sentence: str) -> int:
    """Prints why the service does not start, and returns the exit status."""
    print(f"msr-serve: {sentence}", file=sys.stderr)
    return 2


def _serve(settings: Settings, bundle: Bundle) -> None:
    url = f"http://{_reachable(settings.host)}:{settings.port}"
    threading.Thread(target=_greet, args=(url, bundle), daemon=True).start()
    if settings.workers == 1:
        config = worker_config()  # the address of a simulator is in the environment by now
        server = uvicorn.Server(config)
        server.run(listeners(config.bind_socket()))
        if not server.started:
            raise SystemExit(STARTUP_FAILURE)
        return
    uvicorn.run(
        # A name and no object: worker processes import it themselves.
        "service.wiring.application:create_app_from_environment",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        log_config=None,  # `logs.configure` has set up uvicorn's loggers too
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=30,  # seconds for requests under way when the service stops
    )


def _reachable(host: str) -> str:
    """Returns the host part of a URL that reaches a server which listens on ``host``."""
    # Listening on all interfaces includes loopback. An IPv6 address is in brackets (RFC 3986, section 3.2.2).
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)


@contextmanager
def _metrics_folder(settings: Settings) -> Iterator[None]:
    """Makes a fresh folder through which several workers share their metrics; one worker needs none."""
    if settings.workers == 1:
        os.environ.pop(MULTIPROCESS_VARIABLE, None)
        yield
        return
    folder = tempfile.mkdtemp(prefix="msr-metrics-")
    os.environ[MULTIPROCESS_VARIABLE] = folder
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _greet(url: str, bundle: Bundle) -> None:
    """Waits until the service is ready, then prints its address and three commands to try."""
    # Without a proxy, whatever the environment says: the service is on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(600):  # a minute of refused connections; one that is accepted may take 5 s more
        try:
            with opener.open(f"{url}/health/ready", timeout=5):
                break
        except OSError:
            time.sleep(0.1)
    else:
        return
    catalogue = bundle.catalogue
    simulator = os.environ.get("MSR_SIMULATOR_URL")
    user_id = next(iter(catalogue.histories.users), None)
    history = [catalogue.items[row].item_id for row in catalogue.popular[:2]]
    by_history = json.dumps({"history": history, "k": 5})
    by_user = json.dumps({"user_id": user_id, "k": 5}) if user_id else by_history
    post = f"curl -s -X POST -H 'content-type: application/json' '{url}/recommend?strategy="
    print(
        f"\nMSR Serve is ready at {url}  ({catalogue.manifest.dataset}: {len(catalogue.items)} items, "
        f"{catalogue.manifest.users} users, backbones {', '.join(bundle.backbones)})\n\n"
        f"  {post}none' -d {_quoted(by_user)}\n"
        f"  {post}s3' -d {_quoted(by_user)}\n"
        f"  {post}s5' -d {_quoted(by_history)}\n\n"
        f"  page {url}/   API {url}/docs   metrics {url}/metrics   stop Ctrl-C\n"
        + (
            f"  the simulator answers for the LVLM: {simulator}/ledger shows what it was sent\n"
            if simulator
            else ""
        ),
        flush=True,
    )


def _quoted(text: str) -> str:
    """Quotes a text for a shell, always in single quotes (``shlex.quote`` leaves some texts bare)."""
    return "'" + text.replace("'", "'\\''") + "'"
