"""Reads a pickle of lists, strings and numbers without running any code that is in it.

A pickle is a program for a small machine. The one of the standard library calls whatever a pickle names, and
takes as much memory as a pickle says; this one knows only the instructions that make plain values, and counts
what they take before it is taken.
"""

from __future__ import annotations

import io
import pickletools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from models.errors import DataError

MAX_BYTES = 32 << 20
"""Bytes of a file at most."""

MAX_MEMORY = 128 << 20
"""Bytes that the values of a file may take."""

MAX_INSTRUCTIONS = 2_000_000
"""Instructions of a file at most; histories take about two for each interaction."""

_STEP = 16  # bytes of an instruction: places in a list and in the memo
_ENTRY = 128  # bytes of an entry of a dict
_WHOLE_NUMBER = 64  # bits; with longer ones a file could make the keys of a dict meet in one place

_VALUES = frozenset(
    (
        *("NONE", "NEWTRUE", "NEWFALSE"),
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING"),
        *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    )
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}


def load_plain_pickle(path: Path) -> Any:
    """Reads a pickle of plain values: lists, tuples, dicts, strings, numbers, truth values and None.

    Raises:
        DataError: it is damaged, asks for anything but plain values, or for too much memory.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise DataError(f"it has more than {MAX_BYTES:,} bytes: write a text file instead")
        return _Machine().run(content)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except Exception as error:  # a damaged pickle raises nearly anything
        raise DataError(f"{path} is not a readable pickle ({error}): fetch it again") from error


class _Machine:
    """Runs the instructions of a pickle that make plain values."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # stacks below the marks
        self.memo: list[Any] = []
        self.texts: dict[str, str] = {}  # each text once
        self.free = MAX_MEMORY
        self.steps: dict[str, Callable[[Any], object]] = {
            "MARK": self._mark,
            "EMPTY_LIST": lambda _: self._push([]),
            "EMPTY_DICT": lambda _: self._push({}),
            "EMPTY_TUPLE": lambda _: self._push(()),
            "LIST": lambda _: self._push(self._above_mark()),
            "TUPLE": lambda _: self._push(tuple(self._above_mark())),
            "TUPLE1": lambda _: self._push(self._top(1)),
            "TUPLE2": lambda _: self._push(self._top(2)),
            "TUPLE3": lambda _: self._push(self._top(3)),
            "DICT": lambda _: self._push(self._filled({}, self._above_mark())),
            "APPEND": lambda _: self._extend([self.stack.pop()]),
            "APPENDS": lambda _: self._extend(self._above_mark()),
            "SETITEM": lambda _: self._set([self.stack.pop(-2), self.stack.pop()]),
            "SETITEMS": lambda _: self._set(self._above_mark()),
            "POP": lambda _: self.stack.pop(),
            "POP_MARK": lambda _: self._above_mark(),
            "PUT": self._put,
            "BINPUT": self._put,
            "LONG_BINPUT": self._put,
            "MEMOIZE": lambda _: self.memo.append(self.stack[-1]),
            "GET": self._get,
            "BINGET": self._get,
            "LONG_BINGET": self._get,
            "PROTO": lambda _: None,
            "FRAME": lambda _: None,
        }

    def run(self, content: bytes) -> Any:
        """Returns the value that a pickle makes.

        Raises:
            DataError: it asks for anything but plain values, or for too much memory.
            Exception: it is damaged, nearly any.
        """
        for number, (code, argument, _) in enumerate(pickletools.genops(io.BytesIO(content))):
            if number > MAX_INSTRUCTIONS or self.free < 0:
                raise DataError("it takes too much memory or time: write a text file instead")
            self.free -= _STEP
            name = code.name
            if name in _VALUES:
                self._push_value(_CONSTANTS.get(name, argument))
            elif (step := self.steps.get(name)) is not None:
                step(argument)
            elif name == "STOP":
                return self.stack.pop()
            else:
                raise DataError(
                    f"it wants {self._wish(name, argument)}; only plain lists and strings are read: do not "
                    "trust this file"
                )
        raise ValueError("it does not end")

    def _wish(self, name: str, argument: object) -> str:
        """Says what an instruction would do that is not done."""
        if name in ("GLOBAL", "INST"):
            return f"to load {str(argument).replace(' ', '.')[:80]}"
        if name == "STACK_GLOBAL" and len(self.stack) > 1:
            return f"to load {'.'.join(each for each in self.stack[-2:] if isinstance(each, str))[:80]}"
        return f"the instruction {name}"

    def _push(self, value: Any) -> None:
        self.free -= sys.getsizeof(value)
        self.stack.append(value)

    def _push_value(self, value: Any) -> None:
        if isinstance(value, str):
            known = self.texts.setdefault(value, value)
            if known is not value:
                self.stack.append(known)
                return
            self.free -= _ENTRY
        elif isinstance(value, int) and value.bit_length() > _WHOLE_NUMBER:
            raise ValueError("a whole number has more than 64 bits")
        self._push(value)

    def _mark(self, _: object) -> None:
        self.below.append(self.stack)
        self.stack = []
        self.free -= sys.getsizeof(self.stack)

    def _above_mark(self) -> list[Any]:
        values, self.stack = self.stack, self.below.pop()
        return values

    def _top(self, number: int) -> tuple[Any, ...]:
        return tuple([self.stack.pop() for _ in range(number)][::-1])

    def _extend(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            raise ValueError("something is appended to what is no list")
        target.extend(values)

    def _set(self, values: list[Any]) -> None:
        self._filled(self.stack[-1], values)

    def _filled(self, target: Any, values: list[Any]) -> dict[Any, Any]:
        if type(target) is not dict or len(values) % 2:
            raise ValueError("something is set in what is no dict")
        self.free -= _ENTRY * len(values) // 2
        keys = values[::2]
        # The hash of a tuple is that of all its parts, and these may hold each other many times over.
        if not all(isinstance(key, (str, int, type(None))) for key in keys):
            raise ValueError("the key of a dict is neither a text nor a number")
        target.update(zip(keys, values[1::2], strict=True))
        return target

    def _put(self, at: int) -> None:
        # Programs count from 0 or from 1. A number out of turn would be memory that a file asks for.
        if not 0 <= at <= len(self.memo) + 1:
            raise ValueError(f"value {at} is stored out of turn")
        self.memo += [None] * (at + 1 - len(self.memo))
        self.memo[at] = self.stack[-1]

    def _get(self, at: int) -> None:
        if not 0 <= at < len(self.memo):
            raise ValueError(f"value {at} is read and was not stored")
        self.stack.append(self.memo[at])
