"""Training, captioning and the LVLM's prompts see the same picture, whatever file it is of."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.contracts.picture import fitted, open_picture
from models.features import descriptor
from service.lvlm.prompt.history_picture import CAPTION_SIDE, CELL_SIDE
from service.lvlm.prompt.thumbnails import open_thumbnail


def scene(mode: str = "RGB", size: tuple[int, int] = (90, 60)) -> Image.Image:
    picture = Image.linear_gradient("L").resize(size).convert("RGB")
    picture.paste((200, 30, 30), (0, 0, size[0] // 3, size[1] // 2))
    return picture.convert(mode)


def faded(mode: str) -> Image.Image:
    picture = scene()
    picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    return picture.convert(mode)


def turned(orientation: int) -> dict[str, Any]:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return {"exif": exif.tobytes()}


KINDS: dict[str, tuple[Image.Image, str, dict[str, Any]]] = {
    "JPEG": (scene(), "JPEG", {}),
    "progressive JPEG": (scene(), "JPEG", {"progressive": True}),
    "large JPEG": (scene(size=(4100, 90)), "JPEG", {}),
    "turned JPEG": (scene(), "JPEG", turned(6)),
    "mirrored JPEG": (scene(), "JPEG", turned(7)),
    "grey JPEG": (scene("L"), "JPEG", {}),
    "CMYK JPEG": (scene("CMYK"), "JPEG", {}),
    "PNG": (scene(), "PNG", {}),
    "large PNG": (scene(size=(90, 4100)), "PNG", {}),
    "thin PNG": (scene(size=(5000, 1)), "PNG", {}),
    "turned PNG": (scene(), "PNG", turned(8)),
    "one bit": (scene("1"), "PNG", {}),
    "16 bits": (Image.new("I;16", (90, 60), 30_000), "PNG", {}),
    "palette": (scene("P"), "PNG", {}),
    "palette with transparency": (scene("P"), "PNG", {"transparency": 3}),
    "one transparent colour": (scene(), "PNG", {"transparency": (200, 30, 30)}),
    "alpha": (faded("RGBA"), "PNG", {}),
    "grey with alpha": (faded("LA"), "PNG", {}),
    "animated GIF": (scene("P"), "GIF", {"save_all": True, "append_images": [faded("P")]}),
    "animated WebP": (scene(), "WEBP", {"save_all": True, "append_images": [scene("L").convert("RGB")]}),
    "WebP with alpha": (faded("RGBA"), "WEBP", {}),
    "BMP": (scene(), "BMP", {}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_features_captions_and_prompts_see_the_same_pixels(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture, form, options = KINDS[kind]
    stream = io.BytesIO()
    picture.save(stream, form, **options)
    content = stream.getvalue()
    (tmp_path / "picture").write_bytes(content)

    seen: list[Image.Image] = []

    def describe(shown: Image.Image) -> np.ndarray[Any, Any]:
        seen.append(shown)
        return np.zeros(descriptor.SIZE, dtype=np.float32)

    monkeypatch.setattr(descriptor, "describe", describe)
    descriptor.Descriptor().encode([str(tmp_path / "picture")])
    seen.extend(seen_by_clip([str(tmp_path / "picture")]))

    assert len(seen) == 2
    for side in (CAPTION_SIDE, *CELL_SIDE.values()):
        shown = open_thumbnail(content, side)
        assert [fitted(each, side).tobytes() for each in seen] == [shown.tobytes()] * 2
    assert {each.size for each in seen} == {open_picture(content).size}


def seen_by_clip(paths: Sequence[str]) -> list[Image.Image]:
    """Returns what CLIP's processor is handed."""
    pytest.importorskip("torch")
    from models.features.clip import ClipEncoder

    class Recording(ClipEncoder):
        def __init__(self) -> None:
            self.seen: list[Any] = []
            self._model = type("Model", (), {"config": type("Config", (), {"projection_dim": 1})})

        def _embed(self, pictures: Sequence[object]) -> np.ndarray[Any, Any]:
            self.seen.extend(pictures)
            return np.zeros((len(pictures), 1), dtype=np.float32)

    encoder = Recording()
    encoder.encode(paths)
    return encoder.seen
