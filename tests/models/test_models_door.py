from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from small_data import save_picture, write_amazon_plus

from models.__main__ import COMMANDS, main
from models.bundle.catalogue import read_catalogue
from models.contracts.captions import Caption, write_captions
from models.data import registry


@pytest.fixture
def data(tmp_path: Path) -> Path:
    side = {"1": {"title": "A mug", "image": {"image_path": "one.png"}}, "2": {"keywords": "a plate"}}
    folder = write_amazon_plus(tmp_path / "shop", [["1", "2", "3"], ["2", "1"]], side)
    save_picture(folder / "photos" / "one.png")
    return folder


def test_data_writes_the_catalogue_and_says_what_is_in_it(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "--data", str(data), "--bundle", str(tmp_path / "bundle")]) == 0
    shown = capsys.readouterr().out
    assert "without title 2, with picture 1" in shown
    assert "shortest 2, median 2.5, mean 2.5, longest 3" in shown
    assert read_catalogue(tmp_path / "bundle").interactions == 5


def test_data_without_a_bundle_only_looks(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert main(["data", "--data", str(data), "--name", "given"]) == 0
    assert "data set      given" in capsys.readouterr().out
    assert sorted(tmp_path.rglob("*")) == before


def test_data_replaces_another_catalogue_only_when_asked(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "bundle"
    command = ["data", "--data", str(data), "--bundle", str(bundle)]
    assert main(command) == 0
    (data / "sequential.txt").write_text("1 1 2\n")
    assert main(command) == 2
    assert "--replace" in capsys.readouterr().err
    assert main([*command, "--replace"]) == 0
    assert read_catalogue(bundle).users == ("u1",)


def test_demo_writes_a_catalogue(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.data.demo.generate.__defaults__", (7, 24, 10))
    assert main(["demo", "--bundle", str(tmp_path), "--seed", "3"]) == 0
    back = read_catalogue(tmp_path)
    assert (len(back.items), len(back.users)) == (24, 10)
    assert "items         24  (without title 0, with picture 24)" in capsys.readouterr().out


def test_captions_of_a_bundle_become_an_item2side_that_is_read_again(data: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    assert main(["data", "--data", str(data), "--bundle", str(bundle)]) == 0
    write_captions(
        bundle / "catalogue" / "captions" / "sim.jsonl", [Caption("P1", "s", "m", "v1", "A red „Krug“.")]
    )
    output = tmp_path / "item2side.json"
    assert main(["captions", "--bundle", str(bundle), "--data", str(data), "--output", str(output)]) == 0
    output.replace(data / "item2side.json")
    assert registry.read(data).captions == {"sim": {0: "A red „Krug“."}}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data", "--data", "nowhere"], "nowhere is no folder"),
        (["captions", "--bundle", "nowhere", "--data", ".", "--output", "o"], "nowhere has no catalogue"),
    ],
)
def test_a_problem_is_one_sentence_and_exit_status_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert message in shown.err
    assert shown.err.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["dance"]])
def test_an_unknown_command_shows_the_known_ones(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    shown = capsys.readouterr().err
    assert all(f"  {name}" in shown for name in COMMANDS)


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name}" in shown for name in COMMANDS)


@pytest.mark.parametrize("command", ["data", "demo", "captions"])
def test_every_command_explains_its_options(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert "--bundle" in capsys.readouterr().out


def test_the_door_opens_from_the_command_line_without_torch(data: Path) -> None:
    program = (
        "import runpy, sys\n"
        f"sys.argv = ['models', 'data', '--data', {str(data)!r}]\n"
        "try:\n"
        "    runpy.run_module('models', run_name='__main__')\n"
        "except SystemExit as stop:\n"
        "    assert stop.code == 0, stop.code\n"
        "import json\n"
        "print(json.dumps(sorted(name.split('.')[0] for name in sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert "numpy" in loaded
    assert not loaded & {"torch", "transformers", "onnx", "onnxruntime", "openai", "anthropic", "service"}
