"""Bytes become one picture for all, or an error that says why, whatever they are."""

from __future__ import annotations

import io
import random
import struct
import subprocess
import sys
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from models.contracts.picture import (
    LONGEST,
    MAX_BYTES,
    MAX_SIDE,
    PictureError,
    fitted,
    media_type,
    open_picture,
)
from models.contracts.picture.parts import MAX_PIECES, exif_orientation, jpeg_parts

RED, WHITE = (200, 30, 30), (255, 255, 255)


def saved(picture: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, form, **options)
    return stream.getvalue()


def plain(mode: str = "RGB", colour: Any = RED, size: tuple[int, int] = (40, 20)) -> Image.Image:
    return Image.new(mode, size, colour)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    depth: int, colours: int, rows: bytes, *chunks: bytes, size: tuple[int, int] = (1, 1), end: bytes = b""
) -> bytes:
    """Writes a PNG by hand: what Pillow would not write."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, depth, colours, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + pixels + chunk(b"IEND", b"") + end


def exif(orientation: int) -> bytes:
    entries = Image.Exif()
    entries[0x0112] = orientation
    return entries.tobytes()


def palette(transparency: int | bytes) -> bytes:
    picture = plain("P", 1)
    picture.putpalette([0, 0, 0, *RED])
    return saved(picture, transparency=transparency)


def animation(form: str) -> bytes:
    return saved(plain(), form, save_all=True, append_images=[plain(colour="blue")], lossless=True)


KINDS: dict[str, tuple[bytes, tuple[int, int, int]]] = {
    "JPEG": (saved(plain(), "JPEG", quality=95, subsampling=0), RED),
    "progressive JPEG": (saved(plain(), "JPEG", progressive=True, quality=95, subsampling=0), RED),
    "grey JPEG": (saved(plain("L", 90), "JPEG"), (90, 90, 90)),
    "CMYK JPEG, inverted as Adobe does": (saved(plain("CMYK", (0, 255, 255, 0)), "JPEG"), (255, 0, 0)),
    "JPEG with bytes after its end": (saved(plain(), "JPEG", quality=95, subsampling=0) + b"more", RED),
    "JPEG with a film after its end": (
        saved(plain(), "JPEG", quality=95, subsampling=0) + b"\xff\xda" * 99,
        RED,
    ),
    "PNG": (saved(plain()), RED),
    "PNG with bytes after its end": (saved(plain()) + b"more", RED),
    "one bit": (saved(plain("1", 1)), WHITE),
    "16 bits of grey": (saved(plain("I;16", 90 * 256 + 255)), (90, 90, 90)),
    "16 bits of grey, one of them transparent": (
        png(16, 0, b"\0\x12\x34", chunk(b"tRNS", b"\x12\x34")),
        WHITE,
    ),
    "16 bits of grey, another transparent": (
        png(16, 0, b"\0\x12\x34", chunk(b"tRNS", b"\x12\x35")),
        (18, 18, 18),
    ),
    "16 bits a channel, a colour transparent": (
        png(16, 2, b"\0" + b"\x12\x34" * 3, chunk(b"tRNS", b"\x12\x34" * 3)),
        WHITE,
    ),
    "grey with alpha": (saved(plain("LA", (0, 0))), WHITE),
    "colour with alpha": (saved(plain("RGBA", (200, 30, 30, 255))), RED),
    "half transparent": (saved(plain("RGBA", (0, 0, 0, 128))), (127, 127, 127)),
    "one grey transparent": (saved(plain("L", 90), transparency=90), WHITE),
    "one colour transparent": (saved(plain(), transparency=RED), WHITE),
    "a palette's colour transparent": (palette(1), WHITE),
    "a palette with alphas": (palette(b"\xff\0"), WHITE),
    "another colour of a palette transparent": (palette(0), RED),
    "GIF": (saved(plain().quantize(4), "GIF"), RED),
    "animated GIF": (animation("GIF"), RED),
    "animated PNG": (animation("PNG"), RED),
    "WebP": (saved(plain(), "WEBP", lossless=True), RED),
    "WebP with alpha": (saved(plain("RGBA", (0, 0, 0, 0)), "WEBP", lossless=True), WHITE),
    "animated WebP": (animation("WEBP"), RED),
    "BMP": (saved(plain(), "BMP"), RED),
    "a colour profile, which is ignored": (saved(plain(), icc_profile=b"no profile"), RED),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_picture_becomes_rgb_over_white(kind: str) -> None:
    content, colour = KINDS[kind]
    picture = open_picture(content)
    assert picture.mode == "RGB"
    assert picture.size in ((40, 20), (1, 1))
    found = picture.getpixel((picture.width // 2, picture.height // 2))
    assert max(abs(a - b) for a, b in zip(found, colour, strict=True)) <= 3


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(9))
def test_every_orientation_is_turned_upright_in_every_format_that_has_one(
    form: str, orientation: int
) -> None:
    picture = plain(size=(40, 20))
    picture.paste("blue", (0, 0, 10, 10))
    upright = open_picture(saved(picture, form, exif=exif(orientation)))
    assert upright.size == ((20, 40) if orientation >= 5 else (40, 20))
    right, bottom = upright.width - 4, upright.height - 4
    corner = {2: (right, 3), 3: (right, bottom), 4: (3, bottom), 6: (right, 3), 7: (right, bottom)}
    red, _, blue = upright.getpixel({**corner, 8: (3, bottom)}.get(orientation, (3, 3)))
    assert blue > 150 > red


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"Exif\0\0",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12\0\x03\0\0\0\x01\0\x09\0\0",
        b"II*\0\x08\0\0\0\xff\xff\x12\x01\x03",
    ],
)
def test_exif_that_makes_no_sense_is_upright(content: bytes) -> None:
    assert exif_orientation(content) == 1


@pytest.mark.parametrize(("size", "fits"), [((5000, 1), (64, 1)), ((1, 5000), (1, 64)), ((3, 2), (64, 43))])
def test_a_fitted_picture_has_pixels_however_thin_it_is(size: tuple[int, int], fits: tuple[int, int]) -> None:
    assert fitted(plain(size=size), 64).size == fits


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize(
    ("size", "reduced"), [((2048, 5), (2048, 5)), ((2049, 6), (1025, 3)), ((5000, 1), (1667, 1))]
)
def test_a_large_picture_is_reduced_by_a_whole_number(
    form: str, size: tuple[int, int], reduced: tuple[int, int]
) -> None:
    picture = open_picture(saved(plain(size=size), form))
    assert picture.size == reduced
    assert max(abs(a - b) for a, b in zip(picture.getpixel((9, 0)), RED, strict=True)) <= 3


def test_parts_that_are_reduced_one_after_the_other_are_one_picture() -> None:
    whole = Image.linear_gradient("L").resize((2100, 1030)).convert("RGB")
    assert open_picture(saved(whole, compress_level=1)).tobytes() == whole.reduce(2).tobytes()


FRAME = b",\0\0\0\0\1\0\1\0\0\2\2L\1\0;"
"""A GIF's frame of one pixel, and its end."""

BROKEN: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "empty"),
    "HTML": (b"<html>404</html>", "neither"),
    "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "neither"),
    "TIFF": (saved(plain(), "TIFF"), "neither"),
    "a text that begins as a BMP does": (b"BMW builds cars, and others do so too.", "neither"),
    "half a JPEG": (saved(plain(size=(400, 400)), "JPEG")[:900], "truncated"),
    "half a PNG": (saved(Image.effect_noise((64, 64), 50))[:-200], "truncated"),
    "a JPEG that ends in its header": (saved(plain(), "JPEG")[:60], "ends before"),
    "many pixels": (saved(plain("1", 1, (8000, 8000))), "more than 50,000,000"),
    "very many pixels": (saved(plain("1", 1, (20000, 20000))), "more than"),
    "a long side": (saved(plain("1", 1, (LONGEST + 1, 1))), "one of its sides"),
    "many pixels in a WebP": (
        b"RIFF\x1c\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff\x3f\0" * 2 + b"VP8 \0\0\0\0",
        "more than 50,000,000",
    ),
    "a GIF that claims to be huge": (
        b"GIF89a\xff\xff\xff\xff\x80\0\0" + bytes(6) + FRAME,
        "more than 50,000,000",
    ),
    "a GIF whose frame is huge": (
        b"GIF89a\1\0\1\0\x80\0\0" + bytes(6) + FRAME.replace(b"\1\0\1\0", b"\xff\x7f" * 2),
        "more than 50,000,000",
    ),
    "a large file": (b"\xff\xd8\xff" + bytes(MAX_BYTES), "bytes"),
    "a JPEG of many segments": (b"\xff\xd8" + b"\xff\xfe\0\x02" * (MAX_PIECES + 1), "segments"),
    "a GIF of many blocks": (b"GIF89a\x01\0\x01\0\0\0\0" + b"!\xfe\1a\0" * MAX_PIECES, "pieces"),
    "a JPEG of many scans": (
        saved(plain(), "JPEG", progressive=True)[:-2] + b"\xff\xda" * 99 + b"\xff\xd9",
        "scans",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_picture_or_too_large_is_refused_with_the_reason(kind: str) -> None:
    content, reason = BROKEN[kind]
    with pytest.raises(PictureError, match=reason):
        open_picture(content)


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"tEXt", b"iCCP", b"eXIf"])
def test_a_bomb_in_what_is_no_pixel_is_never_unpacked(kind: bytes) -> None:
    bomb = zlib.compress(bytes(8_000_000), 1)
    body = {b"iTXt": b"a\0\1\0\0\0", b"tEXt": b"a\0"}.get(kind, b"a\0\0") + bomb
    assert open_picture(png(8, 0, b"\0\x5a", *[chunk(kind, body)] * 3)).getpixel((0, 0)) == (90, 90, 90)


def test_a_jpeg_segment_that_is_shorter_than_its_length_hides_nothing() -> None:
    """With its length left out, a decoder would take the next marker for one and skip the scan behind it."""
    begin, scan = b"\xff\xd8\xff\xc4\0\0", b"\xff\xda\0\x0c\3"
    assert jpeg_parts(begin + scan).content == begin + scan


def test_the_media_type_is_that_of_the_first_bytes() -> None:
    kinds = {media_type(content) for content, _ in KINDS.values()}
    assert kinds == {f"image/{name}" for name in ("jpeg", "png", "gif", "webp", "bmp")}
    assert {media_type(BROKEN[kind][0]) for kind in ("nothing", "HTML", "SVG", "TIFF")} == {None}
    assert media_type(BROKEN["a text that begins as a BMP does"][0]) is None


@settings(max_examples=30, deadline=None)
@given(data=st.data(), kind=st.sampled_from(sorted(KINDS)), seed=st.integers(0, 2**32))
def test_any_bytes_are_a_picture_or_an_error(data: st.DataObject, kind: str, seed: int) -> None:
    content = bytearray(KINDS[kind][0])
    dice = random.Random(seed)
    for _ in range(dice.randint(0, 12)):
        content[dice.randrange(len(content))] = dice.randrange(256)
    content += data.draw(st.binary(max_size=40))
    for each in (bytes(content), bytes(content[: dice.randrange(len(content))])):
        try:
            picture = open_picture(each)
        except PictureError:
            continue
        assert picture.mode == "RGB"
        assert 0 < max(picture.size) <= MAX_SIDE


LARGEST = {
    "PNG with alpha": "Image.new('RGBA', (7070, 7070)), 'PNG'",
    "long PNG": "Image.new('RGBA', (65000, 760)), 'PNG'",
    "16 bits": "Image.new('I;16', (7070, 7070)), 'PNG'",
    "JPEG in passes": "Image.new('RGB', (7070, 7070)), 'JPEG', progressive=True",
    "WebP": "Image.new('RGBA', (3460, 3460), (1, 2, 3, 4)), 'WEBP', lossless=True, method=0, quality=0",
}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak of one process")
@pytest.mark.parametrize("kind", LARGEST)
def test_the_largest_picture_is_opened_in_less_than_300_mb(kind: str, tmp_path: Any) -> None:
    make = f"from PIL import Image\ndef save(p, f, **o): p.save({str(tmp_path / 'p')!r}, f, **o)\n"
    subprocess.run([sys.executable, "-c", f"{make}save({LARGEST[kind]})"], check=True)
    code = (
        "import pathlib; from models.contracts.picture import open_picture\n"
        f"open_picture(pathlib.Path({str(tmp_path / 'p')!r}).read_bytes())\n"
        # Not getrusage: its peak is also that of the process which started this one.
        "status = pathlib.Path('/proc/self/status').read_text()\n"
        "print(status.split('VmHWM:')[1].split()[0])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert 20_000 < int(done.stdout) < 300_000_000 / 1024  # in kB
