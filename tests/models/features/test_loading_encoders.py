from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_encoders

from models.features import FeatureError
from models.features.clip import ClipEncoder
from models.features.pretrained import load_parts
from models.features.text import TextEncoder
from models.features.vision_layers import VisionLayersEncoder

transformers = pytest.importorskip("transformers", reason="needs the extra `features`")

ENCODERS = [
    (TextEncoder, "bert-base-uncased", "--set features.text_encoder=minilm"),
    (ClipEncoder, "openai/clip-vit-base-patch32", "--set features.image_encoder=descriptor"),
    (VisionLayersEncoder, "google/vit-base-patch16-224", "--set features.image_encoder=FOLDER"),
]


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test asks the real hub, or reads what this machine has of it."""
    hub = "http://127.0.0.1:9"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        hub + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.mark.parametrize(("make", "name", "advice"), ENCODERS)
def test_an_encoder_that_cannot_be_downloaded_is_refused_after_one_question_to_the_hub(
    make: Callable[[str], Any],
    name: str,
    advice: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(FeatureError) as refused:
        make(name)
    message = str(refused.value)
    assert f"{name!r} cannot be loaded (it is not on this machine and cannot be downloaded: " in message
    assert advice in message
    assert "\n" not in message
    assert not caplog.messages  # transformers alone retries for a minute, with two lines each time
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("make", "name", "advice"), ENCODERS)
def test_a_folder_that_is_not_there_is_refused_as_such(
    make: Callable[[str], Any], name: str, advice: str, tmp_path: Path
) -> None:
    with pytest.raises(FeatureError, match=r"nowhere' cannot be loaded \(there is no such folder\): name a"):
        make(str(tmp_path / "nowhere"))


def test_a_folder_with_damaged_weights_is_refused(tmp_path: Path) -> None:
    folder = tiny_encoders.text_model(tmp_path / "model")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(FeatureError, match="model' cannot be loaded"):
        TextEncoder(str(folder))


def test_weights_that_are_not_in_the_folder_are_not_replaced_by_random_ones(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(FeatureError, match=r"vit' cannot be loaded .*weights"):
        ClipEncoder(str(tiny_encoders.vit(tmp_path / "vit")))
    capfd.readouterr()
    VisionLayersEncoder(str(tmp_path / "vit"))  # has no pooler, which is not read
    assert capfd.readouterr() == ("", "")


def test_more_tokens_than_the_encoder_reads_are_refused_with_the_number(tmp_path: Path) -> None:
    folder = tiny_encoders.text_model(tmp_path / "model")
    with pytest.raises(FeatureError, match=r"reads 512 tokens at most: --set features.text_tokens=512"):
        TextEncoder(str(folder), tokens=513)


def test_an_encoder_that_the_machine_has_from_the_hub_is_read_without_a_question(tmp_path: Path) -> None:
    commit = "c" * 40
    cached = tmp_path / "hub" / "models--tiny"
    tiny_encoders.text_model(cached / "snapshots" / commit)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit, encoding="utf-8")
    encoder = TextEncoder("tiny", "cls")
    assert encoder.identity == f"cls-256 tiny@{commit}"
    assert encoder.encode(["red mug"]).shape == (1, 16)


def test_an_encoder_that_the_hub_offers_is_downloaded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def load(source: str, local_files_only: bool = False) -> str:
        if local_files_only:
            raise OSError("not here")
        return f"downloaded {source}"

    caplog.set_level("INFO", "models")
    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", lambda url, timeout: url)
    assert load_parts("text encoder", "tiny", [load, load], "do without") == ["downloaded tiny"] * 2
    assert caplog.messages == ["text encoder tiny is not on this machine: it is downloaded"]


@pytest.mark.parametrize("kind", ["clip", "t5"])
def test_a_model_that_gives_texts_no_hidden_states_of_their_own_is_refused(kind: str, tmp_path: Path) -> None:
    model = tiny_encoders.whole_clip(tmp_path / "model")
    if kind == "t5":
        config = transformers.T5Config(vocab_size=8, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
        transformers.T5Model(config).save_pretrained(model)
    tokenizer = tiny_encoders.text_model(tmp_path / "bert")
    for name in ("vocab.txt", "tokenizer_config.json"):
        (model / name).write_bytes((tokenizer / name).read_bytes())
    with pytest.raises(FeatureError, match="is no encoder of texts alone"):
        TextEncoder(str(model))
