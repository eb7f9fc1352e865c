"""Tests what `make` installs: the constraints hold no CUDA, and a user is warned before it is downloaded."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from service_process import ROOT

CUDA = re.compile(r"^(nvidia|cuda|triton|pytorch-triton)[-=]", re.M)

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere torch has no CUDA build")

FROZEN = """cuda-bindings==13.5.0
cuda-toolkit==13.2.2
numpy==2.4.6
nvidia-cublas==13.4.1.3
torch==2.13.0+cu130
tqdm==4.70.1
triton==3.9.0
"""

FAKE_PYTHON = """#!/bin/sh
# Stands in for the interpreter of a virtual environment: notes what is installed, passes the rest on.
case "$*" in
  *"pip install"*) echo "$*" >> "{log}"; echo "downloading" ;;
  *"pip freeze"*) cat "{frozen}" ;;
  *"-m venv "*) for folder; do :; done; mkdir -p "$folder/bin"; cp "$0" "$folder/bin/python" ;;
  *"pip index"*) "{python}" "$@" | grep -v INSTALLED; [ ! -e "{here}" ] || echo INSTALLED: $(cat "{here}") ;;
  *) exec "{python}" "$@" ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the files that installing reads, with an interpreter that downloads nothing."""
    for name in ("Makefile", "constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    fake = tmp_path / "python"
    log, frozen, here = (tmp_path / name for name in ("installed.txt", "frozen.txt", "torch-is-here"))
    frozen.write_text(FROZEN)
    fake.write_text(FAKE_PYTHON.format(log=log, frozen=frozen, here=here, python=sys.executable))
    fake.chmod(0o755)
    return tmp_path


def make(checkout: Path, target: str, index: Path | None = None) -> str:
    """Run make there, without any package index but the given folder of wheels."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "MAKE"))}
    environment |= {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index or "")}
    done = subprocess.run(
        ["make", target, f"PYTHON={checkout / 'python'}"],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_the_constraints_pin_a_plain_torch_and_hold_no_cuda() -> None:
    constraints = (ROOT / "constraints.txt").read_text()
    assert not CUDA.search(constraints)
    assert re.search(r"^torch==\d+\.\d+\.\d+$", constraints, re.M)  # with +cpu no other build would do


def test_lock_keeps_the_pinned_torch_and_leaves_cuda_out(checkout: Path) -> None:
    pinned = re.search(r"^torch==.*$", (ROOT / "constraints.txt").read_text(), re.M)
    assert pinned
    make(checkout, "lock")
    (installed,) = (checkout / "installed.txt").read_text().splitlines()
    constraint = re.search(r"--constraint (\S+)", installed)
    assert constraint
    assert (checkout / constraint[1]).read_text() == pinned[0] + "\n"
    assert (checkout / "constraints.txt").read_text() == "numpy==2.4.6\ntorch==2.13.0\ntqdm==4.70.1\n"


def wheels(checkout: Path, build: str) -> Path:
    """A folder that offers the pinned torch in one build."""
    folder = checkout / "wheels"
    folder.mkdir()
    pinned = re.search(r"^torch==(.*)$", (ROOT / "constraints.txt").read_text(), re.M)
    assert pinned
    (folder / f"torch-{pinned[1]}{build}-py3-none-any.whl").touch()
    return folder


@on_linux
def test_an_index_without_the_cpu_build_is_named_before_anything_of_it_is_downloaded(checkout: Path) -> None:
    lines = make(checkout, ".venv/all", wheels(checkout, "")).splitlines()
    (hint,) = [number for number, line in enumerate(lines) if "PIP_EXTRA_INDEX_URL=" in line]
    assert lines[hint + 1 :].count("downloading") == 1  # the extras; the service came before, without torch


@on_linux
def test_an_index_with_the_cpu_build_goes_unmentioned(checkout: Path) -> None:
    assert "PIP_EXTRA_INDEX_URL" not in make(checkout, ".venv/all", wheels(checkout, "+cpu"))


@on_linux
@pytest.mark.parametrize("build", ["", "+cu130"])
def test_the_owner_of_a_gpu_who_installed_torch_is_not_told_to_take_another(
    checkout: Path, build: str
) -> None:
    pinned = re.search(r"^torch==(.*)$", (ROOT / "constraints.txt").read_text(), re.M)
    assert pinned
    (checkout / "torch-is-here").write_text(pinned[1] + build)
    assert "PIP_EXTRA_INDEX_URL" not in make(checkout, ".venv/all", wheels(checkout, ""))


@on_linux
@pytest.mark.parametrize("version", ["2.4.0", "12.13.0", "2.13.00"])
def test_another_version_of_torch_that_is_installed_does_not_silence_the_hint(
    checkout: Path, version: str
) -> None:
    (checkout / "torch-is-here").write_text(version)
    assert "PIP_EXTRA_INDEX_URL" in make(checkout, ".venv/all", wheels(checkout, ""))


def test_a_comparison_without_a_commit_asks_for_it_before_anything_is_installed(checkout: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        make(checkout, "compare")
    assert "make compare BASE=<commit>" in caught.value.stderr
    assert not (checkout / "installed.txt").exists()


def test_the_service_alone_needs_no_torch_and_says_nothing_of_it(checkout: Path) -> None:
    said = make(checkout, ".venv/service")
    assert "torch" not in said
    assert "torch" not in (checkout / "installed.txt").read_text()


def test_the_owner_of_a_gpu_is_shown_the_pinned_version() -> None:
    pinned = re.search(r"^torch==.*$", (ROOT / "constraints.txt").read_text(), re.M)
    assert pinned
    assert f"pip install {pinned[0]} " in (ROOT / "CONTRIBUTING.md").read_text()
