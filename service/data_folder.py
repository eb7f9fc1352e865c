"""Makes the folder that stays between starts (``MSR_DATA``), and in it one for each part that keeps files."""

from __future__ import annotations

import os
from pathlib import Path

from service.errors import ConfigurationError

PRIVATE = 0o700
"""Mode of the folders: they hold who took what, which other users of the machine need not see."""


def make_data_folder(root: Path, part: str) -> Path:
    """Makes the folder of one part below the data folder, for this user alone, and returns it.

    A data folder that is there already keeps its mode, since it may be a home, a mounted volume or ``/tmp``.
    The part's own folder is set to mode 0700 in any case.

    Args:
        root: data folder; made with mode 0700 if it is missing.
        part: name of the part's folder, such as ``events``.

    Raises:
        ConfigurationError: it cannot be made or written; the message names ``MSR_DATA`` and what to do.
    """
    if root.parts[:1] == ("~",):  # platformdirs leaves it for a user without a home
        raise ConfigurationError(f"MSR_DATA is {root} and this user has no home: set it to a folder")
    folder = root / part
    try:
        root.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        folder.mkdir(mode=PRIVATE, exist_ok=True)
        if folder.stat().st_mode & 0o777 != PRIVATE:
            folder.chmod(PRIVATE)
    except OSError as error:
        raise _unusable(folder, error.strerror or type(error).__name__) from error
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise _unusable(folder, "it cannot be written")
    return folder


def _unusable(folder: Path, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"MSR_DATA: no folder {folder}: {reason}; set MSR_DATA to a folder that this user may write"
    )
