"""Tests page, docs, pictures and links in a real Chromium below a prefix of a real nginx, with a key."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, expect
from redis_process import free_port
from service_process import RunningService, start_service

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
KEY = "open sesame"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(NGINX is None, reason="no nginx (Debian: apt install nginx-light)"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:playwright"),
]

CONFIGURATION = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{ }}
http {{
  access_log off; client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{
    listen 127.0.0.1:{port};
    location /shop/msr {{ proxy_pass {service}; {host} }}
    location /stripped/ {{ proxy_pass {service}/; {host} }}
    location /as-it-comes/ {{ proxy_pass {service}/shop/msr/; }}
  }}
}}
"""
HOST = "proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;"


@contextmanager
def nginx(service: RunningService, folder: Path) -> Iterator[str]:
    """Runs nginx before the service until the block ends; yields its address."""
    port, file = free_port(), folder / "nginx.conf"
    file.write_text(CONFIGURATION.format(folder=folder, port=port, service=service.url, host=HOST))
    process = subprocess.Popen(
        [str(NGINX), "-p", str(folder), "-c", str(file), "-e", str(folder / "error.log")]
    )
    try:
        while True:
            assert process.poll() is None, (folder / "error.log").read_text()
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def proxy(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with (
        start_service(
            bundle_folder, api_key=KEY, root_path="/shop/msr", trusted_proxies="127.0.0.1"
        ) as service,
        nginx(service, tmp_path_factory.mktemp("nginx")) as url,
    ):
        yield url


@pytest.mark.parametrize("address", ["/shop/msr", "/shop/msr/"])
def test_page_and_docs_work_below_the_prefix_and_ask_no_other_server(
    address: str, proxy: str, browser: Browser
) -> None:
    context = browser.new_context(http_credentials={"username": "me", "password": KEY})
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(proxy + address)
    expect(page.locator("#facts")).to_contain_text("served s3")
    picture = page.locator("#items img").first
    expect(picture).to_have_js_property("complete", True)
    assert picture.evaluate("img => img.naturalWidth") > 0
    page.get_by_role("link", name="/docs").click()
    operation = page.locator("#operations-catalogue-list_users_users_get")
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Try it out").click()
    operation.get_by_role("button", name="Execute").click()
    expect(operation.locator(".live-responses-table .response .response-col_status")).to_contain_text("200")
    assert all(url.startswith(f"{proxy}/shop/msr") for url in asked)
    assert len(asked) > 20
    context.close()


@pytest.mark.parametrize("prefix", ["/shop/msr", "/stripped", "/as-it-comes"])
def test_every_route_is_there_whether_the_proxy_strips_its_prefix_or_not(prefix: str, proxy: str) -> None:
    with httpx.Client(base_url=proxy + prefix, headers={"x-api-key": KEY}) as client:
        for path in ("/", "/docs", "/openapi.json", "/users/", "/items", "/health/ready", "/metrics/"):
            answer = client.get(path)
            assert answer.status_code == 200
            head = client.head(path)
            assert (head.status_code, head.content) == (200, b"")
            if path != "/metrics/":
                assert head.headers["content-length"] == str(len(answer.content))
        answer = client.post("/recommend/?strategy=none", json={"user_id": "u1"}, headers={"origin": proxy})
        # Without a header of its own nginx says the service's address, by which the page is foreign.
        assert answer.status_code == (403 if prefix == "/as-it-comes" else 200)
        assert client.get("/docs/").headers["location"] == "../docs"
        with_slash = client.get("/docs/", follow_redirects=True)
        assert str(with_slash.url) == f"{proxy}{prefix}/docs"
        assert with_slash.status_code == 200
        item = client.get("/items").json()["items"][0]
        assert item["image_url"] == f"/shop/msr/items/{item['item_id']}/image"
