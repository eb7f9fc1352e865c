"""Starts the service: checks first, then the simulator if it is wanted, then the workers."""

from __future__ import annotations

import json
import logging
import os
import selectors
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from models.contracts import BundleError
from service import logs
from service.bundle import Bundle, open_bundle
from service.errors import ConfigurationError
from service.settings import Settings, read_settings, unknown_variables
from service.wiring import check

SIMULATOR_START_SECONDS = 15.0

logger = logging.getLogger("service")


def main() -> int:
    """Serve until stopped and return the exit status."""
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
    if settings.workers > 1 and not settings.redis_url.get_secret_value():
        logger.warning(
            "several workers without MSR_REDIS_URL: POST /events answers 503, caches are per worker"
        )
    try:
        with _metrics_folder(settings), _simulator(settings):
            _serve(settings, bundle)
    except ConfigurationError as error:
        return _refuse(str(error))
    except KeyboardInterrupt:
        pass
    return 0


def _refuse(sentence: str) -> int:
    print(f"msr-serve: {sentence}", file=sys.stderr)
    return 2


def _serve(settings: Settings, bundle: Bundle) -> None:
    url = f"http://{_reachable(settings.host)}:{settings.port}"
    threading.Thread(target=_greet, args=(url, bundle), daemon=True).start()
    uvicorn.run(
        "service.app:create_app_from_environment",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=30,
    )


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)


@contextmanager
def _metrics_folder(settings: Settings) -> Iterator[None]:
    """A fresh folder through which several workers share their metrics."""
    if settings.workers == 1:
        os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
        yield
        return
    folder = tempfile.mkdtemp(prefix="msr-metrics-")
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _simulator(settings: Settings) -> Iterator[None]:
    """One simulator for all workers, unless a real provider or another simulator is configured."""
    if not settings.simulated or settings.simulator_url:
        yield
        return
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "service.simulator",
            "--profile",
            settings.simulator_profile,
            "--die-with-parent",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        os.environ["MSR_SIMULATOR_URL"] = _simulator_url(process)
        yield
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout):
            if stream:
                stream.close()


def _simulator_url(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        line = process.stdout.readline() if selector.select(SIMULATOR_START_SECONDS) else ""
    try:
        return str(json.loads(line)["url"])
    except (ValueError, KeyError, TypeError):
        raise ConfigurationError(
            "the simulator did not start: `python -m service.simulator` shows why; or set MSR_SIMULATOR_URL"
        ) from None


def _greet(url: str, bundle: Bundle) -> None:
    """Once the service is ready, say so and show three commands to try."""
    for _ in range(600):
        try:
            with urllib.request.urlopen(f"{url}/health/ready", timeout=5):  # noqa: S310 (http, by us)
                break
        except OSError:
            time.sleep(0.1)
    else:
        return
    catalogue = bundle.catalogue
    user_id = next(iter(catalogue.histories.users), None)
    history = [catalogue.items[row].item_id for row in catalogue.popular[:2]]
    who = json.dumps({"user_id": user_id, "k": 5} if user_id else {"history": history, "k": 5})
    new = json.dumps({"history": history, "k": 5})
    post = f"curl -s -X POST -H 'content-type: application/json' '{url}/recommend?strategy="
    print(
        f"\nMSR Serve is ready at {url}  ({catalogue.manifest.dataset}: {len(catalogue.items)} items, "
        f"{catalogue.manifest.users} users, backbones {', '.join(bundle.backbones)})\n\n"
        f"  {post}none' -d {_quoted(who)}\n"
        f"  {post}s3' -d {_quoted(who)}\n"
        f"  {post}s5' -d {_quoted(new)}\n\n"
        f"  page {url}/   API {url}/docs   metrics {url}/metrics   stop Ctrl-C\n",
        flush=True,
    )


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
