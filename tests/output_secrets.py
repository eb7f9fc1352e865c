"""A pytest plugin: a test fails whose output holds a secret, its own or that of a process that it started.

Keys and passwords of a test hold ``MARK``. What the test, its fixtures and its processes print is in the
report of its teardown, by the plugins of pytest that capture it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

MARK = "s3cr3t"
"""Text that is in every key and every password that a test makes up."""

HIDDEN = "…"


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Names a case without the secret that it is about."""
    if isinstance(val, str) and MARK in val:
        return ascii(val).strip("'\"").replace(MARK, "hidden")
    return None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Hides secrets in what a test has printed and logged, and fails the test."""
    report: pytest.TestReport = yield  # type: ignore[misc]
    found = [name for name, text in report.sections if MARK in text]
    report.sections = [(name, text.replace(MARK, HIDDEN)) for name, text in report.sections]
    if found and call.when == "teardown":  # its report has the sections of all phases
        report.outcome = "failed"
        report.longrepr = f"a secret of this test is in its output: {', '.join(found)}"
    return report  # type: ignore[return-value]
