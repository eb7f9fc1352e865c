"""Reads the pages and their files, each page with the address that the files of this version have."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from pathlib import Path

_WEB = Path(__file__).parents[1] / "web"

ASSETS = {
    path.name: path
    for path in (
        *(_WEB / name for name in ("page.js", "page.css", "docs.js", "icon.svg")),
        *(_WEB / "swagger" / name for name in ("swagger-ui-bundle.js", "swagger-ui.css")),
    )
}
"""Files that the pages load, by name. They hold nothing secret."""

MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
"""Media types by ending; what the platform has registered for an ending may be something else."""


def read_page(name: str, root_path: str) -> str:
    """Returns a page.

    Its links are relative, so they count below whatever path a proxy shows it; once ``root_path`` is known,
    also if the address lacks the final slash.

    Args:
        name: file name of the page.
        root_path: prefix of all paths (``MSR_ROOT_PATH``); empty for none.
    """
    text = (_WEB / name).read_text(encoding="utf-8")
    if root_path:  # it holds letters, digits and slashes alone, so it needs no escaping
        text = text.replace('<base href="./">', f'<base href="{root_path}/">')
    # With the version in the address, browsers may keep a file for ever.
    return re.sub(r'"assets/([a-z.-]+)"', lambda found: f'"assets/{found[1]}?v={_digest(found[1])}"', text)


@lru_cache
def _digest(name: str) -> str:
    return hashlib.sha256(ASSETS[name].read_bytes()).hexdigest()[:16]
