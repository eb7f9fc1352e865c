"""Opens item pictures of any format as plain RGB."""

from __future__ import annotations

import warnings

from PIL import Image


def open_picture(path: str) -> Image.Image | None:
    """Opens a picture in RGB, transparent parts on white as in a shop; None when it cannot be decoded."""
    try:
        with warnings.catch_warnings():
            # Pillow warns of a file that decodes to more than 89 million pixels, which would fill the memory.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                if not picture.has_transparency_data:
                    return picture.convert("RGB")
                layered = picture.convert("RGBA")
    except Exception:  # a damaged picture raises nearly anything
        return None
    white = Image.new("RGBA", layered.size, "white")
    return Image.alpha_composite(white, layered).convert("RGB")
