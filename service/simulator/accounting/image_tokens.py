"""Counts the image tokens that each model family bills for a picture of a given size.

Sources: the vendors' vision guides (tiles of 512 pixels, patches of 32 or 28 pixels), checked against
published token counts of real calls: 512×512 is 308 and 1024×1024 is 1,229 tokens for the patch models; 256,
512 and 1024 squares are 100, 361 and 1,369 tokens for the 28-pixel models.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import ceil, sqrt
from typing import Protocol


class ImageRule(Protocol):
    """Bills one picture by its size."""

    def tokens(self, width: int, height: int, detail: str) -> int:
        """Counts the tokens of a picture in pixels; detail is ``low``, ``high``, ``auto`` or ``original``."""
        ...


@dataclass(frozen=True, slots=True)
class Tiles:
    """Bills a base price and, except at low detail, a price per tile of 512 × 512 pixels.

    The picture is first shrunk to 2,048 pixels at the longer and 768 at the shorter side (OpenAI's vision
    guide).

    Attributes:
        base: tokens of a picture.
        per_tile: tokens of each tile.
    """

    base: int
    per_tile: int

    def tokens(self, width: int, height: int, detail: str) -> int:
        """See ImageRule."""
        if detail == "low":
            return self.base
        scale = min(1.0, 2048 / max(width, height))
        scale = min(scale, 768 / min(width, height))
        return self.base + self.per_tile * ceil(round(width * scale) / 512) * ceil(
            round(height * scale) / 512
        )


@dataclass(frozen=True, slots=True)
class Patches:
    """Bills a price per patch; larger pictures are shrunk until both their side and the patches fit a limit.

    Attributes:
        side: side of a patch in pixels.
        factor: tokens per patch.
        low: limits at low detail: pixels of the longer side, and patches.
        high: limits at any other detail: pixels of the longer side, and patches.
    """

    side: int
    factor: float
    low: tuple[int, int]
    high: tuple[int, int]

    def tokens(self, width: int, height: int, detail: str) -> int:
        """See ImageRule."""
        longest, most = self.low if detail == "low" else self.high
        scale = min(1.0, longest / max(width, height))
        patches = self._patches(width * scale, height * scale)
        # Rounding up to whole patches can exceed the limit again, so the picture shrinks step by step.
        while patches > most:
            scale *= min(0.99, sqrt(most / patches))
            patches = self._patches(width * scale, height * scale)
        return ceil(patches * self.factor)

    def _patches(self, width: float, height: float) -> int:
        return ceil(round(width) / self.side) * ceil(round(height) / self.side) or 1


_UNLIMITED = (65_535, 10**9)  # pixels of the longer side, patches
_PATCHES_1_2 = Patches(32, 1.2, low=(512, 256), high=(2048, 2500))
# Anthropic's vision guide: 28 pixel patches; longest side 1,568 pixels, 2,576 from 4.7 on.
_CLAUDE = Patches(28, 1.0, low=(1568, 1568), high=(1568, 1568))
_CLAUDE_LARGE = Patches(28, 1.0, low=(2576, 4784), high=(2576, 4784))

OPENAI_FAMILIES: dict[str, ImageRule] = {
    "gpt-4o": Tiles(85, 170),
    # 33 times the tokens of gpt-4o at a 17th of the price: a picture costs twice as much.
    "gpt-4o-mini": Tiles(2833, 5667),
    "gpt-4.1": Tiles(85, 170),
    "gpt-4.1-mini": Patches(32, 1.62, low=(2048, 1536), high=(2048, 1536)),
    "gpt-4-turbo": Tiles(85, 170),
    "gpt-4-vision": Tiles(85, 170),
    "gpt-5": Tiles(70, 140),
    "gpt-5.2": _PATCHES_1_2,
    "gpt-5.4": Patches(32, 1.2, low=(2048, 6144), high=(2048, 2500)),
    "gpt-5.5": _PATCHES_1_2,
    "gpt-5.6": _PATCHES_1_2,
    "gpt-6": _PATCHES_1_2,
    "o1": Tiles(75, 150),
    "o3": Tiles(75, 150),
}
_UNSHRUNK_AUTO = ("gpt-5.5", "gpt-5.6", "gpt-6")  # there `auto` means the original size, not `high`

RULES: dict[str, ImageRule] = {"tiles": Tiles(85, 170), "patches": _PATCHES_1_2, "claude": _CLAUDE}


def openai_image_tokens(model: str, width: int, height: int, detail: str, default: ImageRule) -> int:
    """Bills a picture on the OpenAI wire; a model of no known family pays by ``default``."""
    model = model.partition("@")[0]
    families = [
        name for name in OPENAI_FAMILIES if model == name or model.startswith((f"{name}-", f"{name}."))
    ]
    # The longest name wins: "gpt-4o-mini" before "gpt-4o".
    family = max(families, key=len, default="")
    rule = OPENAI_FAMILIES.get(family, default)
    if family in _UNSHRUNK_AUTO and detail in ("auto", "original") and isinstance(rule, Patches):
        rule = Patches(rule.side, rule.factor, low=_UNLIMITED, high=_UNLIMITED)
    return rule.tokens(width, height, detail)


def anthropic_image_tokens(model: str, width: int, height: int) -> int:
    """Bills a picture on the Anthropic wire; models from 4.7 on take larger pictures."""
    # Dates of eight digits are no minor version: "claude-sonnet-4-20250514" is 4.0.
    version = re.search(r"claude-[a-z]+-(\d{1,2})(?:-(\d{1,2}))?(?!\d)", model)
    large = version is not None and (int(version[1]), int(version[2] or 0)) >= (4, 7)
    return (_CLAUDE_LARGE if large else _CLAUDE).tokens(width, height, "high")
