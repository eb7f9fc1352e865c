from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from models.bundle.onnx_export import (
    ExportError,
    check_encoder,
    encoder_session,
    export_encoder,
    sample_histories,
)
from models.contracts import ENCODER_INPUT, ENCODER_OUTPUT
from models.networks.sasrec import SASRec, SASRecConfig

ITEMS = 50


def network(blocks: int = 2, length: int = 6, seed: int = 0) -> SASRec:
    torch.manual_seed(seed)
    return SASRec(SASRecConfig(dimension=16, length=length, blocks=blocks, heads=2, dropout=0.5)).eval()


@pytest.fixture
def item_vectors() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(ITEMS, 16)).astype(np.float32)


@pytest.fixture
def histories() -> list[np.ndarray]:
    generator = np.random.default_rng(1)
    return [generator.integers(ITEMS, size=n).astype(np.int32) for n in (1, 2, 4, 9, 30)]


@pytest.mark.parametrize("blocks", [1, 2, 3])
@pytest.mark.parametrize("length", [1, 2, 6])
def test_the_encoder_follows_the_contract_for_every_length(blocks: int, length: int, tmp_path: Path) -> None:
    model = network(blocks, length)
    export_encoder(model, tmp_path / "encoder.onnx")
    session = encoder_session(tmp_path / "encoder.onnx")
    assert [each.name for each in session.get_inputs()] == [ENCODER_INPUT]
    assert [each.name for each in session.get_outputs()] == [ENCODER_OUTPUT]
    for n in range(1, length + 1):
        vectors = torch.randn(1, n, 16)
        (user,) = session.run(None, {ENCODER_INPUT: vectors.numpy()})
        assert user.shape == (1, 16)
        assert user.dtype == np.float32
        with torch.inference_mode():
            np.testing.assert_allclose(user, model(vectors)[:, -1].numpy(), atol=1e-5)


def test_exporting_leaves_the_network_in_evaluation_mode(tmp_path: Path) -> None:
    model = network()
    export_encoder(model, tmp_path / "encoder.onnx")
    assert not any(module.training for module in model.modules())


def test_a_faithful_encoder_passes(
    tmp_path: Path, item_vectors: np.ndarray, histories: list[np.ndarray]
) -> None:
    export_encoder(network(), tmp_path / "encoder.onnx")
    check_encoder(tmp_path / "encoder.onnx", network(), item_vectors, histories)


def test_an_encoder_of_other_weights_is_refused(
    tmp_path: Path, item_vectors: np.ndarray, histories: list[np.ndarray]
) -> None:
    export_encoder(network(seed=1), tmp_path / "encoder.onnx")
    with pytest.raises(ExportError, match="differ by"):
        check_encoder(tmp_path / "encoder.onnx", network(), item_vectors, histories)


def test_an_encoder_that_is_wrong_for_one_length_only_is_refused(
    tmp_path: Path, item_vectors: np.ndarray, histories: list[np.ndarray]
) -> None:
    wrong = network()
    with torch.no_grad():
        wrong.positions[0].normal_(std=1.0)  # read by the longest histories alone
    export_encoder(wrong, tmp_path / "encoder.onnx")
    with pytest.raises(ExportError, match="after 6 items"):
        check_encoder(tmp_path / "encoder.onnx", network(), item_vectors, histories)


def test_scores_that_are_not_numbers_are_refused(
    tmp_path: Path, item_vectors: np.ndarray, histories: list[np.ndarray]
) -> None:
    export_encoder(network(), tmp_path / "encoder.onnx")
    item_vectors[7] = np.nan
    with pytest.raises(ExportError, match="not a number"):
        check_encoder(tmp_path / "encoder.onnx", network(), item_vectors, histories)


def test_the_weights_are_fp32_and_inside_the_file(tmp_path: Path) -> None:
    export_encoder(network(), tmp_path / "encoder.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["encoder.onnx"]
    weights = onnx.load(tmp_path / "encoder.onnx").graph.initializer
    floats = [each for each in weights if each.data_type != onnx.TensorProto.INT64]
    assert {each.data_type for each in floats} == {onnx.TensorProto.FLOAT}


def test_sampled_histories_have_every_length_that_exists(histories: list[np.ndarray]) -> None:
    lengths = {len(history) for history in sample_histories(histories, 10)}
    assert lengths == set(range(1, 11))
    assert {len(history) for history in sample_histories(histories[:3], 10)} == {1, 2, 3, 4}
