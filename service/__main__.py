"""``python -m service`` serves; ``enhance`` captions a bundle's images, ``events`` backs up what is kept."""

from __future__ import annotations

import os
import signal
import sys

from models.contracts.missing_packages import needed_by

USAGE = """usage: python -m service [serve|enhance|events] [--help]

  serve      answer HTTP (the default); configured by MSR_… variables, see .env.example
  enhance    describe every item image of a bundle with an LVLM and keep the captions
  events     say what is kept of users' events, back it up, or put a damaged file aside

The simulator is a server of its own: python -m service.simulator
"""


def main(argv: list[str]) -> int:
    """Runs one command and returns its exit status: 2 for one that does not exist."""
    command, arguments = (argv[0], argv[1:]) if argv else ("serve", [])
    if command in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    with needed_by(f"service {command}"):
        return _run(command, arguments)


def _run(command: str, arguments: list[str]) -> int:
    if command == "enhance":
        from service.captioning import command as enhance

        return enhance.main(arguments)
    if command == "events":
        from service import events_command

        return events_command.main(arguments)
    if command == "serve" and not arguments:
        # A SIGHUP asks for the bundle anew, and must not end a service that does not handle it yet.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        # BLAS counts the host's cores, not the container's, and reads this before numpy is imported.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        # With it the Prometheus client would keep every value in a file that it maps; workers inherit this.
        os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
        from service import serve

        return serve.main()
    print(f"unknown: {' '.join([command, *arguments])}\n\n{USAGE}", end="", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
