"""Tests that a picture is served as what its contents are, and that no other file is served as one."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from bundles import write_bundle
from PIL import Image
from starlette.testclient import TestClient

from service.catalogue import images as catalogue_images
from service.http.services import Services
from service.settings import Settings
from service.wiring.application import create_app


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("odd") / "bundle", enhanced=False) / "catalogue" / "images"


@pytest.fixture(scope="module")
def client(images: Path) -> Iterator[TestClient]:
    """The service on a bundle without digests but for the first four: any contents may be a picture."""
    settings = Settings(bundle=images.parents[1], simulator_url="http://127.0.0.1:9")
    with TestClient(create_app(settings), "http://127.0.0.1") as client:
        services: Services = client.app.state.services  # type: ignore[attr-defined]
        generation = services.generation.get()
        items = tuple(
            item if row < 4 else replace(item, image_sha256=None)
            for row, item in enumerate(generation.catalogue.items)
        )
        catalogue = replace(generation.catalogue, items=items)
        services.generation.swap(replace(generation, bundle=replace(generation.bundle, catalogue=catalogue)))
        yield client


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP"])
def test_the_type_is_that_of_the_contents_whatever_the_name(
    kind: str, client: TestClient, images: Path
) -> None:
    Image.new("RGB", (8, 8)).save(images / "I006.png", kind)
    answer = client.get("/items/I006/image")
    assert (answer.status_code, answer.headers["content-type"]) == (200, f"image/{kind.lower()}")
    assert answer.content == (images / "I006.png").read_bytes()
    assert answer.headers["x-content-type-options"] == "nosniff"


SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


@pytest.mark.parametrize(
    "content", [SVG, b"<script>alert(1)</script>", b"", b"\x89PNG", b"%PDF-1.7", b"secret"]
)
def test_what_is_no_picture_is_not_served(content: bytes, client: TestClient, images: Path) -> None:
    (images / "I007.png").write_bytes(content)
    assert client.get("/items/I007/image").status_code == 404


def test_a_picture_that_was_changed_removed_or_replaced_is_not_served(
    client: TestClient, images: Path
) -> None:
    assert client.get("/items/I001/image").status_code == 200
    Image.new("RGB", (8, 8)).save(images / "I001.png")
    assert client.get("/items/I001/image").status_code == 404
    (images / "I002.png").rename(images / "moved.png")
    assert client.get("/items/I002/image").status_code == 404
    (images / "I002.png").symlink_to("moved.png")
    assert client.get("/items/I002/image").status_code == 404
    (images / "I003.png").unlink()
    os.mkfifo(images / "I003.png")  # who opens it would wait
    assert client.get("/items/I003/image").status_code == 404


@pytest.mark.parametrize("item", ["I000", "I008"])  # with a digest in the catalogue, and without one
def test_a_client_that_has_the_picture_is_told_so(item: str, client: TestClient) -> None:
    etag = client.get(f"/items/{item}/image").headers["etag"]
    for asked in ([etag], [f'W/"x", W/{etag}'], ['"x"', etag], ["*"]):
        answer = client.get(f"/items/{item}/image", headers=[("if-none-match", tag) for tag in asked])
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
    assert client.get(f"/items/{item}/image", headers={"if-none-match": '"x"'}).status_code == 200


def test_a_slow_disk_holds_up_pictures_alone(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, goes_on = threading.Event(), threading.Event()
    read = catalogue_images._read

    def read_slowly(folder: int, name: str) -> bytes:
        reading.set()
        assert goes_on.wait(30)
        return read(folder, name)

    monkeypatch.setattr(catalogue_images, "_read", read_slowly)
    with ThreadPoolExecutor(1) as threads:
        picture = threads.submit(client.get, "/items/I000/image")
        assert reading.wait(30)
        assert client.get("/items/I000").status_code == 200
        goes_on.set()
        assert picture.result().status_code == 200
