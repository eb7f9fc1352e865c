"""Where the real data sets lie."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Other processes may hold the CPU for longer than hypothesis' deadline of 200 ms.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets; a test that asks for it is skipped where there is none."""
    folder = Path(os.environ.get("MSR_TEST_DATA", REPOSITORY / ".." / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder}: set MSR_TEST_DATA to their folder")
    return folder.resolve()
