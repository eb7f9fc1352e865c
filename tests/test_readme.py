"""What the README tells people to type exists, and what it shows is what they see."""

import json
import re
import subprocess
from pathlib import Path

import httpx
from service_process import ROOT, start_service

from service.settings import DEMO_BUNDLE, Settings

README = (ROOT / "README.md").read_text()


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), flags=re.M))
    assert set(re.findall(r"\bmake ([a-z-]+)", README)) <= targets


def test_every_linked_file_exists() -> None:
    for link in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (ROOT / link).exists(), link


def test_every_setting_exists() -> None:
    known = {f"MSR_{name.upper()}" for name in Settings.model_fields}
    assert set(re.findall(r"\bMSR_[A-Z_]+", README)) <= known


def test_the_first_answer_is_the_one_shown() -> None:
    command = re.search(r"^\$ (curl .*)$", README, flags=re.M)
    assert command
    shown = re.findall(r'"item_id": "(D\d+)", "rank": (\d), "base_rank": (\d+)', README)
    with start_service(Path(DEMO_BUNDLE)) as service:
        typed = command[1].replace("http://127.0.0.1:8000", service.url)
        answer = json.loads(subprocess.run(["sh", "-c", typed], capture_output=True, check=True).stdout)
        assert httpx.get(service.url).status_code == 200
    found = [(item["item_id"], str(item["rank"]), str(item["base_rank"])) for item in answer["items"]]
    assert found[: len(shown)] == shown
    assert answer["served"] == "s3"
