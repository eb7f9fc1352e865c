"""A base URL works as it was pasted: with its version part or without, down to an endpoint or not."""

import pytest

from service.lvlm.providers.wire.base_urls import Wire, host_of, normalised


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://host", "https://host/v1"),
        ("https://host/", "https://host/v1"),
        ("https://host/v1", "https://host/v1"),
        ("https://host/v1//", "https://host/v1"),
        ("  HTTPS://host:8443/v1\n", "https://host:8443/v1"),
        ("http://[::1]:8001", "http://[::1]:8001/v1"),
        ("https://host/v1/chat/completions", "https://host/v1"),
        ("https://host/v1/chat/completions/", "https://host/v1"),
        ("https://host/chat/completions", "https://host"),
        ("https://openrouter.ai/api/v1", "https://openrouter.ai/api/v1"),
        ("https://host/v1beta/openai/", "https://host/v1beta/openai"),
        ("https://x.openai.azure.com/openai/v1/", "https://x.openai.azure.com/openai/v1"),
        ("https://host/openai/deployments/x/chat/completions", "https://host/openai/deployments/x"),
    ],
)
def test_openais_format_finds_its_paths_below_any_form_of_the_address(url: str, address: str) -> None:
    assert normalised(url, "openai") == address


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://host", "https://host"),
        ("https://host/", "https://host"),
        ("https://host/v1", "https://host"),
        ("https://host/v1/", "https://host"),
        ("https://host/v1/messages", "https://host"),
        ("https://host/anthropic", "https://host/anthropic"),
        ("https://host/anthropic/v1/messages/", "https://host/anthropic"),
    ],
)
def test_anthropics_format_finds_its_paths_below_any_form_of_the_address(url: str, address: str) -> None:
    assert normalised(url, "anthropic") == address


@pytest.mark.parametrize("wire", ["openai", "anthropic"])
@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("host/v1", "must begin with http:// or https://"),
        ("localhost:8001/v1", "must begin with http:// or https://"),
        ("ftp://host", "must begin with http:// or https://"),
        ("https://", "with a host"),
        ("https:///v1", "with a host"),
        ("https://host:99999/v1", "port up to 65535"),
        ("https://[host/v1", "with a host"),
        ("https://ho st/v1", "without spaces"),
        ("https://host/v1\x00", "control characters"),
        ("https://me:s3cr3t@host/v1", "user name or password"),
        ("https://s3cr3t@host/v1", "user name or password"),
        (
            "https://host/v1?api-version=s3cr3t&key=s3cr3t",
            "(api-version, key): it goes into the option 'query'",
        ),
        ("https://host/v1?s3cr3t", "must not hold a query: it goes"),
        ("https://host/v1#s3cr3t", "fragment"),
    ],
)
def test_what_is_no_address_for_calls_is_refused_and_not_quoted(url: str, sentence: str, wire: Wire) -> None:
    with pytest.raises(ValueError, match=r"^must ") as caught:
        normalised(url, wire)
    assert sentence in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


def test_the_host_of_an_address_is_what_a_key_goes_to() -> None:
    assert host_of("https://api.openai.com/v1") == "api.openai.com"
    assert host_of("http://localhost:8001/v1") == "localhost:8001"
