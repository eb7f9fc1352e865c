from __future__ import annotations

import collections
import os
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.data import plain_pickle
from models.data.plain_pickle import load_plain_pickle
from models.errors import DataError


class Hostile:
    """Runs a command when unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_are_read_in_every_pickle_protocol(tmp_path: Path, protocol: int) -> None:
    value = [["1", "2"], [], ["ü"], [3, 2.5, None, True], {"a": ("b",)}]
    (tmp_path / "p.pkl").write_bytes(pickle.dumps(value, protocol=protocol))
    assert load_plain_pickle(tmp_path / "p.pkl") == value


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_hostile_pickle_runs_nothing(tmp_path: Path, protocol: int) -> None:
    proof = tmp_path / "it-ran"
    payload = pickle.dumps([["1"], Hostile(f"touch {proof}")], protocol=protocol)
    (tmp_path / "p.pkl").write_bytes(payload)
    with pytest.raises(DataError, match="system; only plain lists and strings"):
        load_plain_pickle(tmp_path / "p.pkl")
    assert not proof.exists()
    pickle.loads(payload)
    assert proof.exists(), "the payload was harmless and this test proved nothing"


def test_not_even_a_harmless_class_is_looked_up(tmp_path: Path) -> None:
    (tmp_path / "p.pkl").write_bytes(pickle.dumps(collections.OrderedDict(a=1)))
    with pytest.raises(DataError, match=r"collections\.OrderedDict"):
        load_plain_pickle(tmp_path / "p.pkl")


@given(st.binary(max_size=60))
def test_damaged_bytes_are_a_data_error_or_a_plain_value(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.pkl"
    path.write_bytes(raw)
    try:
        value = load_plain_pickle(path)
    except DataError:
        return
    assert type(value).__module__ == "builtins"


BOMBS = {
    "a bytearray of a terabyte": b"\x80\x05\x96" + (1 << 40).to_bytes(8, "little") + b".",
    "a text of a terabyte": b"\x80\x04\x8d" + (1 << 40).to_bytes(8, "little") + b".",
    "a place in the memo far out": b"\x80\x04]r\xff\xff\xff\x7f.",
    "a number of a million digits": b"\x80\x04\x8b"
    + (400_000).to_bytes(4, "little")
    + b"\x7f" * 400_000
    + b".",
    "a key that holds itself many times over": b"})"
    + b"".join(b"\x94h" + bytes([at]) + b"\x86" for at in range(60))
    + b"Ns.",
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_pickle_that_asks_for_memory_or_time_is_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / "p.pkl").write_bytes(BOMBS[kind])
    with pytest.raises(DataError, match=r"p\.pkl"):
        load_plain_pickle(tmp_path / "p.pkl")


@pytest.mark.parametrize("limit", ["MAX_BYTES", "MAX_MEMORY", "MAX_INSTRUCTIONS"])
def test_bytes_memory_and_instructions_of_a_pickle_have_limits(
    tmp_path: Path, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "p.pkl").write_bytes(pickle.dumps([[] for _ in range(1_000)]))
    assert len(load_plain_pickle(tmp_path / "p.pkl")) == 1_000
    monkeypatch.setattr(plain_pickle, limit, 900)
    with pytest.raises(DataError, match="write a text file instead"):
        load_plain_pickle(tmp_path / "p.pkl")


def test_a_list_that_stands_many_times_in_a_pickle_is_one_list(tmp_path: Path) -> None:
    nested: list[object] = ["1"]
    for _ in range(50):
        nested = [nested] * 100
    (tmp_path / "p.pkl").write_bytes(pickle.dumps(nested))
    value = load_plain_pickle(tmp_path / "p.pkl")
    assert value[0] is value[99]
