"""Looks through the bytes of an ONNX file for what an encoder has no use for, before anything runs it.

A tensor may keep its numbers in another file, and names it: any file of the host. A node may hold graphs of
its own, which loop as long as they like. An encoder of a bundle needs neither, so both are refused.

The file is a message of Protocol Buffers (https://protobuf.dev/programming-guides/encoding), and its fields
are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto. What is not looked for: a graph without
loops may still ask for any amount of memory or time. An encoder is a program in that sense.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

_MESSAGES: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 10: "tensor", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "function": {7: "node", 11: "attribute"},
    "training": {1: "graph", 2: "graph"},
    "tensor": {},
}
"""What the fields of each kind of message are, by number, as far as there is something to find in them."""

_REFUSED: Mapping[tuple[str, int], str] = {
    ("tensor", 13): "keeps numbers in another file",
    ("attribute", 6): "holds a graph within the graph",
    ("attribute", 11): "holds a graph within the graph",
}
_LOCATION = 14  # of a tensor's numbers: 0 is the tensor itself, the only other value is a file

_VARINT, _EIGHT_BYTES, _MESSAGE, _FOUR_BYTES = 0, 1, 2, 5


def check_onnx(content: bytes) -> None:
    """Checks that an ONNX file is complete in itself and has no graphs within its graph.

    Raises:
        ValueError: it is not an ONNX file, or has what an encoder must not have; the message says which.
    """
    waiting = [("model", memoryview(content))]
    if not content:
        raise ValueError("it is empty")
    while waiting:
        kind, message = waiting.pop()
        for number, value in _fields(message):
            if (refused := _REFUSED.get((kind, number))) is not None:
                raise ValueError(f"it {refused}")
            if kind == "tensor" and number == _LOCATION and value != 0:
                raise ValueError(f"it {_REFUSED['tensor', 13]}")
            if (inner := _MESSAGES[kind].get(number)) is not None:
                if not isinstance(value, memoryview):
                    raise ValueError("it is not an ONNX file")
                waiting.append((inner, value))


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yields number and value of every field; a number of fixed width has the value 0."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if kind == _MESSAGE:
            size, at = _varint(message, at)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            size = 8 if kind == _EIGHT_BYTES else 4
        else:
            raise ValueError("it is not an ONNX file")
        if not number or at + size > len(message):
            raise ValueError("it is not an ONNX file, or cut off")
        yield number, message[at : at + size] if kind == _MESSAGE else 0
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """Reads an integer of seven bits a byte, lowest first; returns it and where the next field begins."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise ValueError("it is not an ONNX file, or cut off")
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("it is not an ONNX file")
