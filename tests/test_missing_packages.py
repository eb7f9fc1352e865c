"""Tests every command in an interpreter that cannot import what an extra, or the service itself, needs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from service_process import ROOT

import benchmarks.__main__
import models.__main__
from models.contracts.missing_packages import needed_by

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

BLOCKER = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name in {blocked!r}:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)

sys.meta_path.insert(0, Blocker())
"""

AFTER_MAKE_RUN = {
    "benchmarks import",
    "benchmarks score",
    "models captions",
    "models data",
    "models demo",
    "service enhance",
    "service.simulator",
}
"""Doors that open with nothing but the service's own dependencies."""

DOORS = [
    *(f"benchmarks {name}" for name in benchmarks.__main__.COMMANDS),
    *(f"models {name}" for name in models.__main__.COMMANDS),
    "service enhance",
    "service.simulator",
    "loadtest",
]


def modules_of(requirements: Iterable[str]) -> set[str]:
    """The top-level modules of some requirements as ``pyproject.toml`` writes them."""
    wanted = {normal(re.split(r"[^\w.-]", requirement)[0]) for requirement in requirements}
    return {
        module
        for module, distributions in distributions_of_modules().items()
        if any(normal(name) in wanted for name in distributions)
    }


@cache
def distributions_of_modules() -> Mapping[str, list[str]]:
    return packages_distributions()  # reads the files of everything that is installed


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def modules_of_extras(*extras: str) -> set[str]:
    return modules_of(line for name in extras for line in PROJECT["optional-dependencies"][name])


def python(arguments: list[str], blocked: set[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the interpreter without these modules."""
    (folder / "sitecustomize.py").write_text(BLOCKER.format(blocked=blocked))
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])},
        capture_output=True,
        text=True,
        check=False,
    )


def told(done: subprocess.CompletedProcess[str]) -> re.Match[str]:
    """The one sentence of a door that lacks a package."""
    assert (done.returncode, done.stdout) == (2, "")
    sentence = re.fullmatch(
        r"(?P<door>[\w. ]+) needs the package (?P<package>\w+): install what it needs with "
        r"`pip install -c constraints\.txt -e (?:\.|'\.\[(?P<extras>[\w,]+)\]')`, "
        r"or .*`make (?P<target>\w+)`.*\n",
        done.stderr,
    )
    assert sentence, done.stderr
    return sentence


@pytest.mark.parametrize("door", [door for door in DOORS if door not in AFTER_MAKE_RUN])
def test_a_missing_extra_is_one_sentence_that_names_the_command(door: str, tmp_path: Path) -> None:
    blocked = modules_of_extras(*PROJECT["optional-dependencies"])
    sentence = told(python(["-m", *door.split(), "--help"], blocked, tmp_path))
    assert sentence["door"] == door
    assert sentence["target"] == "test"
    assert sentence["package"] in modules_of_extras(*sentence["extras"].split(","))


@pytest.mark.parametrize("door", sorted(AFTER_MAKE_RUN))
def test_a_door_that_needs_no_extra_opens_without_any(door: str, tmp_path: Path) -> None:
    blocked = modules_of_extras(*PROJECT["optional-dependencies"])
    done = python(["-m", *door.split(), "--help"], blocked, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("extras", "modules"),
    [
        (
            "benchmarks",
            [each.module for each in benchmarks.__main__.COMMANDS.values() if each.extras == "benchmarks"],
        ),
        *(
            (each.extras, [each.module])
            for each in benchmarks.__main__.COMMANDS.values()
            if each.extras != "benchmarks"
        ),
        ("models,features", [module for module, _ in models.__main__.COMMANDS.values()]),
        ("loadtest", ["loadtest.locustfile"]),
    ],
)
def test_the_extras_that_the_sentence_names_are_enough(
    extras: str, modules: list[str], tmp_path: Path
) -> None:
    given = modules_of_extras(*extras.split(","))
    blocked = modules_of_extras(*PROJECT["optional-dependencies"]) - given
    done = python(["-W", "ignore", "-c", f"import {', '.join(modules)}"], blocked, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("door", ["service", "service enhance", "service.simulator"])
def test_without_the_service_s_own_packages_the_sentence_names_make_run(door: str, tmp_path: Path) -> None:
    sentence = told(python(["-m", *door.split()], modules_of(PROJECT["dependencies"]), tmp_path))
    assert (sentence["extras"], sentence["target"]) == (None, "run")


@pytest.mark.parametrize("module", ["models.nothing", "tqdm.nothing", "_tkinter"])
def test_a_module_that_no_installation_brings_stays_an_error(module: str) -> None:
    with pytest.raises(ModuleNotFoundError), needed_by("models train", "models"):
        raise ModuleNotFoundError(name=module)
