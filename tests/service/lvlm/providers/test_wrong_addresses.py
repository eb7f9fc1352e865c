"""An address that cannot be used is refused before the start, in one sentence that quotes none of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from service_process import ROOT

from service.errors import ConfigurationError
from service.lvlm.providers.wire.base_urls import Wire, normalised
from service.settings import Settings, read_settings

NO_HOSTS = [
    "https://…/v1",
    "https://my☃.example/v1",
    "https://<host>/v1",
    "https://{x}/v1",
    "https://*",
    "https://x\\y",
    "https://%61",
    "https://.",
    "https://a..b/v1",
    f"https://{'a' * 64}/v1",
    "https://[::1%25x]/v1",
    f"https://host/{'a' * 70_000}",
]

NO_REDIS = [
    "redis://:s3cr3t#x@127.0.0.1:6379/0",
    "redis://s3cr3t#x@127.0.0.1:6379/0",
    "redis://:s3cr3t/x@127.0.0.1:6379/0",
    "redis://h:99999",
    "redis://[::1",
    "redis://h?db=s3cr3t",
    "redis://h?s3cr3t=x",
]


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("MSR_", "OPENAI_", "ANTHROPIC_")):
            monkeypatch.delenv(name)


@pytest.mark.parametrize("wire", ["openai", "anthropic"])
@pytest.mark.parametrize("url", NO_HOSTS, ids=lambda url: url[:30])
def test_a_base_url_whose_host_is_no_host_is_refused(url: str, wire: Wire) -> None:
    with pytest.raises(ValueError, match=r"^must be an address with a host and, if any, a port up to 65535$"):
        normalised(url, wire)


@pytest.mark.parametrize(
    "url",
    [
        "https://münchen.example",
        "http://my_gpu:8000",
        "http://127.0.0.1:1",
        "http://[::1]:1",
        "https://host.",
        "https://api-1.example",
    ],
)
def test_a_host_in_any_writing_that_resolvers_know_is_taken(url: str) -> None:
    assert normalised(url, "openai") == f"{url}/v1"


@pytest.mark.parametrize("url", NO_REDIS)
def test_a_wrong_redis_url_is_refused_and_no_part_of_it_is_shown(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MSR_REDIS_URL", url)
    with pytest.raises(ConfigurationError, match=r"^MSR_REDIS_URL: ") as caught:
        read_settings()
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["redis://u:s3cr3t%23@h:1/0", "rediss://h", "unix:///tmp/x?db=1", "redis://[::1]:6379"]
)
def test_a_redis_url_that_the_client_knows_is_taken(url: str) -> None:
    assert Settings(redis_url=url).redis_url.get_secret_value() == url


@pytest.mark.parametrize(
    "variables",
    [
        {"MSR_REDIS_URL": NO_REDIS[0]},
        {"OPENAI_API_KEY": "s3cr3t", "OPENAI_BASE_URL": NO_HOSTS[0]},
        {"MSR_COMPATIBLE": json.dumps({"x": {"base_url": NO_HOSTS[0], "models": ["m"]}})},
    ],
    ids=["Redis", "vendor", "compatible"],
)
def test_the_start_with_two_workers_stops_with_one_line(
    variables: dict[str, str], bundle_folder: Path
) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "service"],
        env={
            **os.environ,
            "MSR_BUNDLE": str(bundle_folder),
            "MSR_WORKERS": "2",
            "MSR_PORT": "1",
            **variables,
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == 2
    assert run.stderr.startswith("msr-serve: ")
    assert run.stderr.count("\n") == 1
    assert "s3cr3t" not in run.stderr
