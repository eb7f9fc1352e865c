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
_LOCATION = 14  # of a tensor's numbers: 0 is the tensor itself, and the only other value a file

_VARINT, _EIGHT_BYTES, _MESSAGE, _FOUR_BYTES = 0, 1, 2, 5


def check_onnx(content: bytes) -> None:
    """Checks that an ONNX file is complete in itself and has no graphs within its graph.

    Raises:
        ValueError: it is not an ONNX file, or has what an encoder must not have; the message says which.
    """
    if not content:
        raise ValueError("it is empty")
    waiting = [("model", 0, len(content))]
    while waiting:
        kind, begin, end = waiting.pop()
        inner = _MESSAGES[kind]
        for number, wire_type, at, after in _fields(content, begin, end):
            if (refused := _REFUSED.get((kind, number))) is not None:
                raise ValueError(f"it {refused}")
            if kind == "tensor" and number == _LOCATION and (wire_type != _VARINT or content[at] != 0):
                raise ValueError(f"it {_REFUSED['tensor', 13]}")
            if number in inner:
                if wire_type != _MESSAGE:
                    raise ValueError("it is not an ONNX file")
                waiting.append((inner[number], at, after))


def _fields(content: bytes, begin: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yields number, wire type, and where the value begins and ends, of every field of a message."""
    at = begin
    while at < end:
        tag, at = _varint(content, at, end)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == _MESSAGE:
            size, at = _varint(content, at, end)
            after = at + size
        elif wire_type == _VARINT:
            _, after = _varint(content, at, end)
        elif wire_type in (_EIGHT_BYTES, _FOUR_BYTES):
            after = at + (8 if wire_type == _EIGHT_BYTES else 4)
        else:
            raise ValueError("it is not an ONNX file")
        if not number or after > end:
            raise ValueError("it is not an ONNX file, or cut off")
        yield number, wire_type, at, after
        at = after


def _varint(content: bytes, at: int, end: int) -> tuple[int, int]:
    """Reads an integer of seven bits a byte, lowest first; returns it and where the next field begins."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise ValueError("it is not an ONNX file, or cut off")
        byte = content[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("it is not an ONNX file")
