"""Finds the picture of an item in a folder of pictures, whatever shape its entry has in the data."""

from __future__ import annotations

from pathlib import Path, PurePosixPath


class PictureFolder:
    """The files of a folder of pictures, listed once.

    Args:
        folder: folder; None for data without pictures.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._names = {path.name for path in folder.iterdir()} if folder else set()

    def find(self, entry: object) -> str | None:
        """Finds the file that an entry of the data means.

        Args:
            entry: value of the field of pictures, of any type and shape: a name, a path, an address, an
                object or a list of them.

        Returns:
            Its path relative to the folder, with slashes; None if the folder has no such file.
        """
        path = entry.get("image_path") if isinstance(entry, dict) else entry
        name = PurePosixPath(path).name if isinstance(path, str) else None
        return name if name in self._names else None
