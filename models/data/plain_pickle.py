"""Reads a pickle of lists, strings and numbers without running any code that is in it."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, NoReturn

from models.errors import DataError


class PlainUnpickler(pickle.Unpickler):
    """Unpickles lists, dicts, strings and numbers, and refuses everything else.

    A pickle is a program: every class, function or module that it names could be run while it is read. This
    unpickler looks up no name, so that only values of the built-in types can be read.
    """

    def find_class(self, module: str, name: str) -> NoReturn:
        """Refuses every class, function and module.

        Raises:
            DataError: always.
        """
        raise DataError(
            f"it wants to load {module}.{name}; only plain lists and strings are read: do not trust this file"
        )


def load_plain_pickle(path: Path) -> Any:
    """Reads a pickle of plain values.

    Raises:
        DataError: it is damaged or asks for anything but plain values.
    """
    with path.open("rb") as stream:
        try:
            return PlainUnpickler(stream).load()
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
        except Exception as error:  # a damaged pickle raises nearly anything
            raise DataError(f"{path} is not a readable pickle ({error}): fetch it again") from error
