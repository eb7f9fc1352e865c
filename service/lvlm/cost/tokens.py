"""Estimates the tokens of texts and pictures, before a call is made or where its usage was not reported.

Image rules follow the vendors' vision guides, as coded in litellm's ``token_counter``, and were checked
against published counts of real calls: 512 × 512 pixels are 308 tokens by patches of 32 pixels at 1.2 tokens,
and 1024 × 1024 pixels are 1,369 tokens by patches of 28 pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, sqrt
from typing import Any, Protocol

from service.lvlm.providers.base import Image, ImageDetail, Prompt

BYTES_PER_TOKEN = 3.7
"""Bytes of UTF-8 per token of this service's prompts, mostly JSON, in OpenAI's vocabulary o200k."""


class ImageRule(Protocol):
    """The rule by which a model family bills a picture."""

    @property
    def detail(self) -> ImageDetail:
        """Detail to ask for; the rule's tokens hold for this detail."""
        ...

    def tokens(self, width: int, height: int) -> int:
        """Returns the tokens of a picture of ``width`` × ``height`` pixels at this detail."""
        ...


@dataclass(frozen=True, slots=True)
class Tiles:
    """A rule with the same tokens for any picture, at low detail.

    The model then sees 512 × 512 pixels, which is enough for a grid (``prompt.history_picture``).

    Attributes:
        base: tokens of a picture.
        detail: detail to ask for.
    """

    base: int
    detail: ImageDetail = "low"

    def tokens(self, width: int, height: int) -> int:
        """See ImageRule."""
        return self.base


@dataclass(frozen=True, slots=True)
class Patches:
    """A rule with tokens per square patch, for a picture that the vendor shrinks to a largest size.

    Attributes:
        side: pixels of a patch's side.
        factor: tokens per patch.
        longest: pixels of the longer side at most.
        most: patches of a picture at most.
        detail: detail to ask for.
    """

    side: int
    factor: float
    longest: int
    most: int
    detail: ImageDetail = "high"

    def tokens(self, width: int, height: int) -> int:
        """See ImageRule."""
        # Never enlarged. Patches are whole, so the second scale may have to be lowered more than once.
        scale = min(1.0, self.longest / max(width, height))
        patches = self._patches(width * scale, height * scale)
        while patches > self.most:
            scale *= min(0.99, sqrt(self.most / patches))
            patches = self._patches(width * scale, height * scale)
        return ceil(patches * self.factor)

    def _patches(self, width: float, height: float) -> int:
        return max(1, ceil(round(width) / self.side)) * max(1, ceil(round(height) / self.side))


UNKNOWN_FAMILY = Patches(side=32, factor=1.2, longest=2048, most=2500)
"""Rule for models that are not in the price table."""


def image_rule(record: Mapping[str, Any]) -> ImageRule:
    """Returns the rule of a record in the price table.

    Raises:
        ValueError: the record describes no rule.
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
