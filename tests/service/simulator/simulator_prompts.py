"""Prompts in the forms that the simulator reads, and pictures with known looks, for the tests."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageDraw

RED, BLUE, GREEN, WHITE = (204, 36, 36), (44, 96, 196), (52, 142, 62), (250, 250, 250)
GROUND = (226, 229, 230)
Colour = tuple[int, int, int]


def data_block(
    history: Sequence[dict[str, Any]],
    titles: Sequence[str],
    *,
    order: str = "shuffled",
    top: int | None = None,
) -> str:
    """The text of a label prompt; candidates are labelled A, B, …."""
    candidates = [{"label": chr(ord("A") + at), "title": title} for at, title in enumerate(titles)]
    data = {"history": list(history), "candidates": candidates, "order": order, "top": top or len(titles)}
    return f"Rank the candidates.\n<data>\n{json.dumps(data)}\n</data>"


def paper_prompt(history: Sequence[str], titles: Sequence[str], *, ranked: bool = False) -> str:
    """The text of a prompt in the paper's form."""
    task = (
        "A recommender ranked the list that follows, best first."
        if ranked
        else "Recommend what to take next."
    )
    return "\n".join(
        ["What the user took, oldest first:", json.dumps(list(history)), task, "The candidates:",
         json.dumps(list(titles)), "Answer with JSON."]
    )  # fmt: skip


def product(
    colour: Colour, second: Colour = WHITE, pattern: str = "plain", box: Sequence[int] = (24, 24, 104, 104)
) -> Image.Image:
    """A rectangular object of 128 × 128 pixels in all, on a light background."""
    picture = Image.new("RGB", (128, 128), GROUND)
    surface = Image.new("RGB", (128, 128), colour)
    draw = ImageDraw.Draw(surface)
    for step in range(0, 128, 16):
        if pattern == "striped":
            draw.rectangle((0, step, 127, step + 6), fill=second)
        for across in range(0, 128, 16):
            if pattern == "dotted":
                draw.ellipse((across + 4, step + 4, across + 11, step + 11), fill=second)
            if pattern == "checked":
                draw.rectangle((across, step, across + 7, step + 7), fill=second)
                draw.rectangle((across + 8, step + 8, across + 15, step + 15), fill=second)
    left, top, right, bottom = box
    picture.paste(surface.crop((left, top, right, bottom)), (left, top))
    return picture


def grid(cells: Sequence[Image.Image], columns: int) -> Image.Image:
    """Cells in rows, each with a black number badge in its corner and a line around it."""
    rows = -(-len(cells) // columns)
    canvas = Image.new("RGB", (columns * 128, rows * 128), GROUND)
    draw = ImageDraw.Draw(canvas)
    for at, cell in enumerate(cells):
        left, top = at % columns * 128, at // columns * 128
        canvas.paste(cell, (left, top))
        draw.rectangle((left, top, left + 127, top + 127), outline=(200, 200, 200))
        draw.rectangle((left, top, left + 24, top + 22), fill=(0, 0, 0))
        draw.text((left + 4, top + 3), str(at + 1), fill=(255, 255, 255))
    return canvas


def encoded(picture: Image.Image, kind: str = "JPEG") -> bytes:
    """The bytes of a picture file."""
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return buffer.getvalue()


def image_part(data: bytes, media_type: str = "image/jpeg", detail: str = "high") -> dict[str, Any]:
    """An image in OpenAI's wire format."""
    url = f"data:{media_type};base64,{base64.b64encode(data).decode()}"
    return {"type": "image_url", "image_url": {"url": url, "detail": detail}}


def image_block(data: bytes, media_type: str = "image/jpeg") -> dict[str, Any]:
    """An image in Anthropic's wire format."""
    source = {"type": "base64", "media_type": media_type, "data": base64.b64encode(data).decode()}
    return {"type": "image", "source": source}
