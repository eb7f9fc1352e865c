"""Estimates tokens of texts and pictures, before a call is made or where its usage never arrived.

Image rules: the vendors' vision guides, as coded in litellm's ``token_counter`` and checked against published
counts of real calls (512 × 512 is 308 tokens by patches of 32 pixels at 1.2; 1024 × 1024 is 1,369 by patches
of 28 pixels).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, sqrt
from typing import Any, Protocol

from service.lvlm.providers.base import Image, ImageDetail, Prompt

BYTES_PER_TOKEN = 3.7
"""Bytes of a text per token: of our prompts, mostly JSON, in OpenAI's vocabulary o200k."""


class ImageRule(Protocol):
    """Tells how one model family bills a picture."""

    @property
    def detail(self) -> ImageDetail:
        """What to ask for: ``low`` where a picture's price does not depend on it being small anyway."""
        ...

    def tokens(self, width: int, height: int) -> int:
        """Tokens of a picture of ``width`` × ``height`` pixels at this detail."""
        ...


@dataclass(frozen=True, slots=True)
class Tiles:
    """A flat price at low detail, where the model sees 512 pixels: a grid is made to need no more.

    Attributes:
        base: tokens of any picture.
        detail: detail to ask for.
    """

    base: int
    detail: ImageDetail = "low"

    def tokens(self, width: int, height: int) -> int:
        """See ImageRule."""
        return self.base


@dataclass(frozen=True, slots=True)
class Patches:
    """A price per square patch; a larger picture is shrunk to the longest side and the most patches.

    Attributes:
        side: pixels of a patch's side.
        factor: tokens per patch.
        longest: pixels of the longer side, at most.
        most: patches of a picture, at most.
        detail: detail to ask for.
    """

    side: int
    factor: float
    longest: int
    most: int
    detail: ImageDetail = "high"

    def tokens(self, width: int, height: int) -> int:
        """See ImageRule."""
        # Shrunk, never enlarged; then shrunk on until the patches are few enough.
        scale = min(1.0, self.longest / max(width, height))
        patches = self._patches(width * scale, height * scale)
        while patches > self.most:
            scale *= min(0.99, sqrt(self.most / patches))
            patches = self._patches(width * scale, height * scale)
        return ceil(patches * self.factor)

    def _patches(self, width: float, height: float) -> int:
        return max(1, ceil(round(width) / self.side)) * max(1, ceil(round(height) / self.side))


UNKNOWN_FAMILY = Patches(side=32, factor=1.2, longest=2048, most=2500)
"""The rule for models that are not in the price table."""


def image_rule(record: Mapping[str, Any]) -> ImageRule:
    """Builds a rule from its record in the price table.

    Raises:
        ValueError: the record names no rule.
    """
    if "tile_base" in record:
        return Tiles(record["tile_base"])
    if "patch_side" in record:
        return Patches(record["patch_side"], record["factor"], record["longest"], record["most"])
    raise ValueError(f"an image rule has tile_base or patch_side, not {sorted(record)}")


def estimate_text(text: str) -> int:
    """Estimates the tokens of a text, by its length in bytes."""
    return ceil(len(text.encode("utf-8", "replace")) / BYTES_PER_TOKEN)


def estimate_images(prompt: Prompt, rule: ImageRule) -> int:
    """Estimates the tokens of all pictures of a prompt."""
    return sum(rule.tokens(part.width, part.height) for part in prompt.parts if isinstance(part, Image))


def estimate_input(prompt: Prompt, rule: ImageRule) -> int:
    """Estimates the tokens of a whole prompt."""
    texts = [prompt.system, *(part.text for part in prompt.parts if not isinstance(part, Image))]
    return sum(estimate_text(text) for text in texts) + estimate_images(prompt, rule)
