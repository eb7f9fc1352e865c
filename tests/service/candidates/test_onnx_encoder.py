"""Tests that an encoder is used only if it is complete in itself and makes of a history what it must."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
from bundles import mean_encoder
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from models.contracts import BundleError
from service.candidates.onnx_encoder import load_encoder
from service.candidates.onnx_file import check_onnx

D, L = 9, 10
MEAN = mean_encoder(D)


def encoder(
    nodes: Sequence[onnx.NodeProto],
    constants: Sequence[onnx.TensorProto] = (),
    names: tuple[str, str] = ("history", "user_vector"),
    shapes: tuple[list[object], list[object]] = ([1, "n", D], [1, D]),
    element: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    given, made = (
        helper.make_tensor_value_info(name, element, shape) for name, shape in zip(names, shapes, strict=True)
    )
    graph = helper.make_graph(list(nodes), "g", [given], [made], list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    return model


def mean(given: str = "history", made: str = "user_vector", keep: int = 0) -> onnx.NodeProto:
    return helper.make_node("ReduceMean", [given, "axes"], [made], keepdims=keep)


AXES = helper.make_tensor("axes", TensorProto.INT64, [1], [1])


def of_a_file() -> onnx.ModelProto:
    """The axes of the mean are in /etc/hostname."""
    model = onnx.ModelProto.FromString(MEAN.SerializeToString())
    tensor = model.graph.initializer[0]
    tensor.ClearField("int64_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/hostname")
    return model


def of_a_constants_file() -> onnx.ModelProto:
    model = of_a_file()
    (tensor,) = model.graph.initializer
    node = helper.make_node("Constant", [], ["axes"], value=tensor)
    return encoder([node, mean()])


def of_an_inner_graph() -> onnx.ModelProto:
    made = helper.make_tensor_value_info("made", TensorProto.FLOAT, [1, D])
    branch = helper.make_graph([mean(made="made")], "branch", [], [made])
    node = helper.make_node("If", ["yes"], ["user_vector"], then_branch=branch, else_branch=branch)
    return encoder([node], [AXES, helper.make_tensor("yes", TensorProto.BOOL, [], [True])])


def of_zeros(logarithm: str) -> onnx.ModelProto:
    return encoder([mean(made="mean"), helper.make_node(logarithm, ["mean"], ["user_vector"])], [AXES])


REFUSED: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "numbers in a file": (of_a_file, "another file"),
    "a constant in a file": (of_a_constants_file, "another file"),
    "a graph within": (of_an_inner_graph, "graph within"),
    "another input": (
        lambda: encoder([mean("rows")], [AXES], ("rows", "user_vector")),
        r"takes \['rows'\]",
    ),
    "another output": (
        lambda: encoder([mean(made="vector")], [AXES], ("history", "vector")),
        r"gives \['vector'\]",
    ),
    "another d": (lambda: encoder([mean()], [AXES], shapes=([1, "n", D + 1], [1, D + 1])), "history is"),
    "a fixed n": (lambda: encoder([mean()], [AXES], shapes=([1, L, D], [1, D])), "invalid dimensions"),
    "another axis": (
        lambda: encoder([mean(keep=1)], [AXES], shapes=([1, "n", D], [1, 1, D])),
        "user_vector is",
    ),
    "float64": (lambda: encoder([mean()], [AXES], element=TensorProto.DOUBLE), "tensor.double"),
    "no numbers": (lambda: of_zeros("Log"), "not a number"),
    "an unknown operator": (lambda: of_zeros("Guess"), "Guess"),
    "an operator of others": (
        lambda: encoder([helper.make_node("Mean", ["history"], ["user_vector"], domain="org.example")]),
        "org.example",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_encoder_that_cannot_be_served_is_refused_with_the_reason(case: str) -> None:
    make, reason = REFUSED[case]
    with pytest.raises(BundleError, match=rf"encoder\.onnx cannot be used \(.*{reason}.*\): export it again"):
        load_encoder(make().SerializeToString(), D, L)


@pytest.mark.parametrize(
    "content", [b"", b"junk", b"\0" * 100, b"\x18\0\0\0ORTM", MEAN.SerializeToString()[:-9]]
)
def test_what_is_no_encoder_is_refused(content: bytes) -> None:
    with pytest.raises(BundleError, match=r"encoder\.onnx"):
        load_encoder(content, D, L)


def test_a_good_encoder_is_loaded_and_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    session = load_encoder(MEAN.SerializeToString(), D, L)
    history = np.arange(2 * D, dtype=np.float32).reshape(1, 2, D)
    (user,) = session.run(None, {"history": history})
    np.testing.assert_allclose(user, history.mean(axis=1))
    assert capfd.readouterr() == ("", "")


def test_a_shorter_l_than_the_manifests_is_noticed() -> None:
    """A model with ten positions is not opened for histories of eleven items."""
    positions = helper.make_tensor("positions", TensorProto.FLOAT, [L, 1], [0.0] * L)
    masked = helper.make_node("Add", ["history", "positions"], ["placed"])
    model = encoder([masked, mean("placed")], [AXES, positions], shapes=([1, L, D], [1, D]))
    for length in (L + 1, L - 1):
        with pytest.raises(BundleError, match="cannot be used"):
            load_encoder(model.SerializeToString(), D, length)


@given(content=st.binary(max_size=200), at=st.integers(0, len(MEAN.SerializeToString())))
def test_any_bytes_are_looked_through_or_refused(content: bytes, at: int) -> None:
    for each in (content, MEAN.SerializeToString()[:at] + content):
        with suppress(ValueError):
            check_onnx(each)


def test_the_demos_encoders_are_complete_in_themselves() -> None:
    paths = list((Path(__file__).parents[3] / "service" / "demo" / "backbones").glob("*/encoder.onnx"))
    assert paths
    for path in paths:
        check_onnx(path.read_bytes())
