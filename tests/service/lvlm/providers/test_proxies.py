"""Proxies of the environment lead to providers, or one sentence at the start says why not."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import sys
from functools import partial
from pathlib import Path

import httpx2
import pytest
from lvlm_parts import SCRIPTS
from proxy_server import listening, proxy_server, relay
from scripted_server import Reply, scripted_server
from service_process import start_service

from service.errors import ConfigurationError
from service.lvlm.cost.prices import Prices
from service.lvlm.providers.anthropic.messages import AnthropicMessages
from service.lvlm.providers.base import Call, Prompt, Provider, Text, TextDelta
from service.lvlm.providers.openai.chat import OpenAIChat
from service.lvlm.providers.wire.transport import check_proxies

VARIABLES = [f"{name}_PROXY" for name in ("HTTP", "HTTPS", "ALL", "NO")]
CALL = Call(Prompt("Say x.", (Text("x"),), None, "test"), "m", 100)


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def connect(wire: str, url: str) -> Provider:
    if wire == "openai":
        return OpenAIChat(wire, api_key="k", image_detail=Prices.read().image_detail, base_url=f"{url}/v1")
    return AnthropicMessages(wire, api_key="k", base_url=url)


async def said(provider: Provider) -> str:
    try:
        return "".join([event.text async for event in provider.stream(CALL) if isinstance(event, TextDelta)])
    finally:
        await provider.close()


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY", "http_proxy"])
@pytest.mark.parametrize("scheme", ["http", "socks5"])
@pytest.mark.parametrize("wire", ["openai", "anthropic"])
async def test_a_proxy_leads_to_a_provider_whose_name_it_resolves(
    wire: str, scheme: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        scripted_server(Reply(SCRIPTS[wire].stream(b"x"))) as server,
        proxy_server(scheme, server.url) as proxy,
    ):
        monkeypatch.setenv(variable, proxy.url)
        check_proxies("http://llm.example")
        assert await said(connect(wire, "http://llm.example")) == "x"
        assert proxy.asked == ["llm.example:80"]
        assert len(server.requests) == 1


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of ``llm.example``, followed by its key."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    command = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout {path} -out {path}.crt"
    subject = ["-subj", "/CN=llm.example", "-addext", "subjectAltName=DNS:llm.example"]
    subprocess.run([*command.split(), *subject], capture_output=True, check=True)
    path.write_text(Path(f"{path}.crt").read_text() + path.read_text())
    return path


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_a_proxy_carries_tls_and_never_sees_the_key(
    scheme: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    async with (
        scripted_server(Reply(SCRIPTS["openai"].stream(b"x"))) as server,
        listening(partial(relay, target=server.url), tls) as port,
        proxy_server(scheme, f"http://127.0.0.1:{port}") as proxy,
    ):
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert await said(connect("openai", "https://llm.example")) == "x"
        assert proxy.asked == ["llm.example:443"]
        assert server.requests[0].headers["authorization"] == "Bearer k"
        assert "Bearer" not in "".join(proxy.heads)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HTTPS_PROXY", "socks4://s3cr3t@host:1080"),
        ("https_proxy", "http://me:s3cr3t@"),
        ("HTTP_PROXY", "http://s3cr3t:99999"),
        ("ALL_PROXY", "socks5://s3cr3t:port"),
        ("HTTPS_PROXY", "http://sec ret:80"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_named_and_not_quoted(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=f"^{name} is no proxy that can be used") as caught:
        check_proxies("https://api.openai.com/v1")
    assert "s3cr3t" not in str(caught.value)


def test_a_socks_proxy_says_what_to_install_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    check_proxies("https://api.openai.com/v1")
    monkeypatch.setitem(sys.modules, "socksio", None)
    with pytest.raises(ConfigurationError, match=r"^ALL_PROXY names a SOCKS proxy.* install .*socksio$"):
        check_proxies("https://api.openai.com/v1")


@pytest.mark.parametrize("url", ["http://127.0.0.1:8001", "http://localhost:8001/v1", "http://[::1]:8001"])
def test_no_proxy_is_looked_at_for_this_machine(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "nonsense://")
    check_proxies(url)


@pytest.mark.parametrize(
    ("names", "refused"), [("*", False), ("llm.example, *", False), ("llm.example", True), ("", True)]
)
def test_the_check_refuses_what_the_client_would_refuse(
    names: str, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "nonsense://host")
    monkeypatch.setenv("NO_PROXY", names)

    def opens() -> bool:
        try:
            httpx2.AsyncClient()
        except ValueError:
            return False
        return True

    def passes() -> bool:
        try:
            check_proxies("https://llm.example")
        except ConfigurationError:
            return False
        return True

    assert opens() is passes() is not refused


def test_the_start_stops_with_one_sentence_about_a_broken_proxy(
    bundle_folder: Path,
) -> None:
    broken = {"HTTPS_PROXY": "socks4://me:s3cr3t@host"}
    with (
        pytest.raises(RuntimeError, match=r"stopped with 2:\nmsr-serve: HTTPS_PROXY is no proxy") as caught,
        start_service(bundle_folder, environment=broken, provider="openai", OPENAI_API_KEY="k"),
    ):
        pass
    assert "s3cr3t" not in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_the_greeting_never_goes_through_a_proxy(bundle_folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:  # answers nothing
        url = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        with start_service(bundle_folder, environment={"http_proxy": url, "no_proxy": ""}) as service:
            for _ in range(100):
                if "MSR Serve is ready" in service.log:
                    break
                subprocess.run(["sleep", "0.05"], check=True)
            assert "MSR Serve is ready" in service.log
        proxy.setblocking(False)
        with pytest.raises(BlockingIOError):
            proxy.accept()
