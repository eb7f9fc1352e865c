"""Runs Locust with the users of ``locustfile.py``: ``python -m loadtest``, with Locust's own options."""

from __future__ import annotations

import sys
from pathlib import Path

from models.contracts.missing_packages import needed_by

LOCUSTFILE = Path(__file__).with_name("locustfile.py")

if __name__ == "__main__":
    with needed_by("loadtest", "loadtest"):
        from locust.main import main

        sys.argv = ["locust", "-f", str(LOCUSTFILE), *sys.argv[1:]]
        sys.exit(main())  # type: ignore[no-untyped-call]
