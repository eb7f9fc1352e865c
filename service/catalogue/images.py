"""Reads the images of items: files of one folder, and nothing outside it."""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import threading
import weakref
from pathlib import Path

from models.contracts import Item
from models.contracts.picture import MAX_BYTES
from service.outages import Outage

THREADS = 4
"""Images that are read at once for clients in one process."""
QUEUE = 256
"""Images that may wait for a thread before the next one is refused."""

_OPENED = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

log = logging.getLogger(__name__)


class ItemImages:
    """Reads images from the folder that was there when the bundle was opened; safe in several threads.

    A bundle may come from elsewhere: its names and its files decide nothing but which bytes of this folder
    are shown. Links are not followed, to the folder or in it.

    Args:
        folder: folder of the images; it need not be there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder: int | None = None
        # By the descriptor a folder that was moved away stays the one that is read.
        try:
            self._folder = os.open(folder, _OPENED | os.O_DIRECTORY)
        except FileNotFoundError:
            log.debug("there are no images: %s is missing", folder)
        except OSError as error:
            log.warning(
                "no image is shown: %s is not a folder that can be opened (%s)", folder, error.strerror
            )
        else:
            weakref.finalize(self, os.close, self._folder)
        self._lock = threading.Lock()
        self._outage = Outage("images of items", log)
        self._named: set[str] = set()  # items whose image is known to be wrong

    def read(self, item: Item) -> bytes | None:
        """Returns the contents of an item's image; None without one that can be read. Blocks.

        An image that cannot be read, is larger than ``MAX_BYTES`` or is not the one that the catalogue was
        made with is none, and the log says so.
        """
        if item.image is None or self._folder is None:
            return None
        try:
            content = _read(self._folder, item.image)
        except (OSError, ValueError) as error:  # a name that no file can have is a ValueError
            self.note(item, getattr(error, "strerror", None) or str(error))
            return None
        if item.image_sha256 is not None and hashlib.sha256(content).hexdigest() != item.image_sha256:
            self.note(item, "it is not the file that the catalogue was made with (its SHA-256 differs)")
            return None
        return content

    def note(self, item: Item, reason: str) -> None:
        """Logs why an item's image is not shown: once for each item, and of many items in a few lines."""
        with self._lock:
            if item.item_id not in self._named:
                self._named.add(item.item_id)
                self._outage.failed("the image of item %.80r is not shown: %s", item.item_id, reason)


def _read(folder: int, name: str) -> bytes:
    """Returns the contents of a regular file in a folder.

    Raises:
        OSError: there is none, or it cannot be read.
        ValueError: the name leads out of the folder, or it is no regular file, or too large.
    """
    if "/" in name:
        raise ValueError("its name leads to another folder")
    # Looked at before it is opened: to open a device may set something off.
    if not stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        raise ValueError("it is not a regular file")
    with os.fdopen(os.open(name, _OPENED, dir_fd=folder), "rb") as file:
        status = os.fstat(file.fileno())  # of what was opened: another file may have taken its place
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is not a regular file")
        if status.st_size > MAX_BYTES:
            raise ValueError(f"it has {status.st_size:,} bytes, more than {MAX_BYTES:,}")
        return file.read(status.st_size)
