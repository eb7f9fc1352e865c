from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ("service", "simulator", "redis", "prometheus")


def test_the_stack_is_the_service_with_redis_simulator_and_prometheus_and_more_by_profile() -> None:
    assert set(SERVICES) == {*OURS, "grafana", "events-redis"}
    for name in ("grafana", "events-redis"):
        assert SERVICES[name]["profiles"] == [name]
    assert not any("profiles" in SERVICES[name] for name in OURS)


def container_s_own() -> dict[str, str]:
    """The variables that the container sets for itself, over those of .env and of the shell."""
    env, *rest = SERVICES["service"]["command"]
    assert (env, rest[-3:]) == ("env", ["python", "-m", "service"])
    return dict(variable.split("=", 1) for variable in rest[:-3])


def test_every_setting_of_env_and_shell_reaches_the_service_and_nothing_else() -> None:
    keys = {"OPENAI_API_KEY", "ANTHROPIC_API_KEY"}
    settings = {f"MSR_{name.upper()}" for name in Settings.model_fields}
    settings = {name.removeprefix("MSR_") if name[4:] in keys else name for name in settings}
    settings |= {"OPENAI_BASE_URL", "ANTHROPIC_BASE_URL"}
    given = SERVICES["service"]["environment"]
    assert given.keys() == settings - container_s_own().keys()
    for name, value in given.items():
        assert re.fullmatch(rf"\$\{{{name}:-[^}}]*\}}(,service)?", value), name
    # What is set under another name, such as a key that MSR_COMPATIBLE names, comes with the file.
    assert SERVICES["service"]["env_file"] == [{"path": ".env", "required": False}]


def test_addresses_and_folders_inside_are_the_container_s_own() -> None:
    assert container_s_own() == {
        "MSR_HOST": "0.0.0.0",
        "MSR_PORT": "8000",
        "MSR_BUNDLE": "",
        "MSR_DATA": "/data",
    }


def test_events_are_in_a_volume_that_belongs_to_the_service_alone() -> None:
    assert "${MSR_DATA:-events}:/data" in SERVICES["service"]["volumes"]
    assert {"events", "events-redis"} <= COMPOSE["volumes"].keys()
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert "MSR_DATA=/data" in dockerfile
    assert "install --directory --mode 0700 --owner msr --group msr /data" in dockerfile


def test_the_service_is_reached_from_this_machine_alone_unless_told_otherwise() -> None:
    assert SERVICES["service"]["ports"] == ["${LISTEN_ADDRESS:-127.0.0.1}:${MSR_PORT:-8000}:8000"]
    allowed = SERVICES["service"]["environment"]["MSR_ALLOWED_HOSTS"]
    # `service` is how Prometheus calls it, whatever other names are set.
    assert allowed == "${MSR_ALLOWED_HOSTS:-localhost},service"
    assert "ports" not in SERVICES["redis"] | SERVICES["events-redis"]


def test_the_grace_period_is_longer_than_the_service_takes_to_stop() -> None:
    stop_s = Settings.model_fields["stop_s"].default
    assert SERVICES["service"]["stop_grace_period"] == f"1m${{MSR_STOP_S:-{stop_s}}}s"


def test_the_redis_of_events_drops_nothing() -> None:
    command = SERVICES["events-redis"]["command"]
    options = dict(zip(command[::2], command[1::2], strict=True))
    assert (options["--appendonly"], options["--maxmemory-policy"]) == ("yes", "noeviction")
    assert SERVICES["events-redis"]["volumes"] == ["events-redis:/data"]


def test_a_key_of_the_shell_is_given_with_the_address_that_it_is_meant_for() -> None:
    given = SERVICES["service"]["environment"]
    for vendor in ("OPENAI", "ANTHROPIC"):
        assert given[f"{vendor}_API_KEY"] == f"${{{vendor}_API_KEY:-}}"
        for name in (f"{vendor}_BASE_URL", f"MSR_{vendor}_BASE_URL", f"MSR_{vendor}_OPTIONS"):
            assert given[name] == f"${{{name}:-}}"
    assert given["MSR_COMPATIBLE"] == "${MSR_COMPATIBLE:-}"


def commands() -> dict[str, list[str]]:
    """The health checks in Python, by where they stand."""
    image = re.search(r"^HEALTHCHECK.*\\\n\s*CMD (\[.*\])$", (ROOT / "Dockerfile").read_text(), flags=re.M)
    assert image
    found = {"image": json.loads(image[1])}
    for name, service in SERVICES.items():
        test = service.get("healthcheck", {}).get("test", [])
        if "python" in test:
            found[name] = test[1:]
    return found


@pytest.mark.parametrize(("where", "command"), commands().items(), ids=commands())
def test_a_health_check_never_goes_through_a_proxy(where: str, command: list[str]) -> None:
    class Healthy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

    with HTTPServer(("127.0.0.1", 0), Healthy) as server, socket.create_server(("127.0.0.1", 0)) as proxy:
        threading.Thread(target=server.handle_request).start()
        port = str(server.server_address[1])
        code = re.sub(r"127\.0\.0\.1:\d+", f"127.0.0.1:{port}", command[-1])
        proxies = {"http_proxy": f"http://127.0.0.1:{proxy.getsockname()[1]}", "no_proxy": ""}
        subprocess.run(
            [sys.executable, *command[1:-1], code],
            env={**os.environ, **proxies, "MSR_PORT": port},
            check=True,
        )


def test_the_stack_starts_on_the_settings_of_the_compose_file(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SERVICES["service"]["environment"].items():
        monkeypatch.setenv(name, re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(value)))
    settings = Settings()
    assert (settings.provider, settings.workers) == ("simulator", 2)
    assert settings.redis_url.get_secret_value().startswith("redis://redis:")


def test_no_secret_is_written_down_and_none_is_required() -> None:
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if name.endswith("_KEY"):
                assert value == f"${{{name}:-}}"


def test_every_container_comes_back_and_cannot_gain_rights() -> None:
    for service in SERVICES.values():
        assert service["restart"] == "unless-stopped"
        assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(SERVICES[name]["read_only"] for name in OURS)


def test_prometheus_scrapes_the_port_that_the_service_listens_on() -> None:
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    (target,) = config["scrape_configs"][0]["static_configs"][0]["targets"]
    host, _, port = target.partition(":")
    assert SERVICES[host]["ports"][0].endswith(f":{port}")
    assert f"MSR_PORT={port}" in (ROOT / "Dockerfile").read_text()
    assert config["rule_files"] == [path.name for path in (ROOT / "deploy/prometheus").glob("alerts*")]


def test_redis_is_bounded_and_keeps_nothing_on_disk() -> None:
    command = SERVICES["redis"]["command"]
    options = dict(zip(command[::2], command[1::2], strict=True))
    assert options == {
        "--maxmemory": "256mb",
        "--maxmemory-policy": "volatile-lru",
        "--save": "",
        "--appendonly": "no",
    }


def test_every_mounted_file_of_the_repository_exists() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("./"):
                assert (ROOT / source).exists(), source


def test_the_image_runs_without_root_and_without_what_only_training_needs() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    instructions = [line for line in lines if line and not line.startswith("#")]
    assert any(re.fullmatch(r"USER [1-9]\d*", line) for line in instructions)
    assert any(line.startswith("HEALTHCHECK") for line in instructions)
    copied = [line for line in instructions if line.startswith("COPY")]
    assert not any(re.search(r"\bmodels\b(?!/__init__\.py|/contracts\b|/$)", line) for line in copied)
    assert "[" not in next(line for line in instructions if "pip install" in line)  # no extra


def test_the_build_context_holds_what_is_copied_and_little_else() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = {line[1:] for line in ignored if line.startswith("!")}
    copied = {
        source
        for line in (ROOT / "Dockerfile").read_text().splitlines()
        if line.startswith("COPY")
        for source in line.split()[1:-1]
    }
    assert "*" in ignored
    assert copied == allowed
