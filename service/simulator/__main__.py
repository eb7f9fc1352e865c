"""Runs ``python -m service.simulator`` until it is stopped; its first line on stdout is JSON with the URL."""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from threading import Thread

from models.contracts.missing_packages import needed_by

with needed_by("service.simulator"):
    import uvicorn

    from service.simulator.accounting.image_tokens import RULES
    from service.simulator.app import create_app
    from service.simulator.fault_script import ScriptError, read_script
    from service.simulator.latency_profiles import Fast, Instant, Paper, Profile
    from service.simulator.wire.connection import BreakableProtocol


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the simulator and returns the exit status: 2 for a wrong option or a port that is taken."""
    options = _parser().parse_args(arguments)
    profile = _profile(options)
    try:
        script = read_script(json.loads(options.faults.read_text("utf-8"))) if options.faults else None
    except (OSError, ValueError, ScriptError) as error:
        print(f"--faults {options.faults}: {error}", file=sys.stderr)
        return 2
    app = create_app(
        profile,
        options.seed,
        RULES[options.image_tokens],
        script,
        prompt_cache=options.prompt_cache,
        batch_seconds=options.batch_seconds,
    )
    try:
        listener = _listen(options.host, options.port)
    except OSError as error:
        print(
            f"cannot listen on {options.host}:{options.port}: {error.strerror}; try --port 0", file=sys.stderr
        )
        return 2
    # No access log: the ledger has every call.
    config = uvicorn.Config(
        app,
        http=BreakableProtocol,
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    if options.die_with_parent:
        Thread(target=_stop_at_end_of_input, args=(server,), daemon=True).start()
    host, port = listener.getsockname()[:2]
    # RFC 3986: an IPv6 address stands in brackets in a URL.
    address = f"[{host}]" if ":" in host else host
    print(json.dumps({"url": f"http://{address}:{port}", "profile": profile.name}), flush=True)
    server.run(sockets=[listener])
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m service.simulator", description=__doc__)
    add = parser.add_argument
    add("--host", default="127.0.0.1")
    add("--port", type=int, default=0, help="0 takes a free port (default)")
    add("--profile", choices=("fast", "paper", "instant"), default="fast", help="how long answers take")
    add("--ttft", type=_not_negative, default=0.15, help="fast: seconds to the first token (default 0.15)")
    add("--tokens-per-second", type=_positive, default=200.0, help="fast: rate after it (default 200)")
    add("--speed-up", type=_positive, default=1.0, help="paper: divides all times (default 1)")
    add("--seed", type=int, default=0, help="breaks ties between equal candidates (default 0)")
    add(
        "--image-tokens",
        choices=tuple(RULES),
        default="patches",
        help="how pictures of models of no known family are billed on the OpenAI wire (default patches)",
    )
    add("--faults", type=Path, help="a script of faults (JSON), as PUT /faults takes it")
    add("--prompt-cache", action="store_true", help="bill a prompt that came before as cached (OpenAI wire)")
    add(
        "--batch-seconds", type=_not_negative, default=2.0, help="from a batch's start to its end (default 2)"
    )
    add("--die-with-parent", action="store_true", help="stop when stdin ends, so that no orphan stays")
    return parser


def _profile(options: argparse.Namespace) -> Profile:
    match options.profile:
        case "paper":
            return Paper(options.speed_up)
        case "instant":
            return Instant()
        case _:
            return Fast(options.ttft, options.tokens_per_second)


def _listen(host: str, port: int) -> socket.socket:
    """Opens the port, before its address is printed, so that no client is refused that connects at once."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2048)


def _stop_at_end_of_input(server: uvicorn.Server) -> None:
    """Stops the server when stdin ends, which is when the parent process ends."""
    while os.read(sys.stdin.fileno(), 1024):  # not sys.stdin.read(): its lock would hang the exit
        pass
    server.should_exit = True


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def _not_negative(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds")
    return value


if __name__ == "__main__":
    sys.exit(main())
