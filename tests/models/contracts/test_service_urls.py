"""A base URL is read alike by every tool, and no sentence about one repeats it."""

from __future__ import annotations

import argparse

import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.lab.options import add_service_arguments
from benchmarks.lab.service_client import ServiceClient
from models.contracts.service_urls import service_url


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("http://localhost:8000", "http://localhost:8000"),
        ("http://localhost:8000/", "http://localhost:8000"),
        ("http://host/msr/", "http://host/msr"),
        ("http://host/msr//", "http://host/msr"),
        (" HTTPS://Shop.Example/MSR\n", "https://shop.example/MSR"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("http://[0:0::1]/msr", "http://[::1]/msr"),
        ("http://bücher.example", "http://xn--bcher-kva.example"),
        ("http://host/ü%20x", "http://host/%C3%BC%20x"),
        ("http://my_service:80", "http://my_service:80"),
    ],
)
def test_a_good_url_has_one_form_in_every_tool(given: str, read: str) -> None:
    assert service_url(given) == read
    assert service_url(read) == read
    assert ServiceClient(given).url == read
    parser = argparse.ArgumentParser()
    add_service_arguments(parser)
    assert parser.parse_args(["--url", given]).url == read


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("localhost:8000", "must begin with http:// or https://"),
        ("[::1]:8000", "must begin with http://"),
        ("ftp://host", "must begin with http://"),
        ("", "must begin with http://"),
        ("http://", "must have a host"),
        ("http:///msr", "must have a host"),
        ("http://:8000", "must have a host"),
        ("http://-host", "must have a host"),
        ("http://[::1", "must have a host"),
        ("http://[::1%eth0]", "must have a host"),
        ("http://host:0", "a port from 1 to 65535"),
        ("http://host:", "a port from 1 to 65535"),
        ("http://host:99999", "a port from 1 to 65535"),
        ("http://host:eighty", "a port from 1 to 65535"),
        ("http://host/?key=s3cr3t", "must not hold a query"),
        ("http://host/?", "must not hold a query"),
        ("http://host#s3cr3t", "must not hold a query"),
        ("http://me:s3cr3t@host", "must not hold a user name or password"),
        ("http://s3cr3t@host", "must not hold a user name or password"),
        ("http://ho st", "must not hold spaces"),
        ("http://host\\msr", "must not hold spaces, backslashes"),
        ("http://host\x00", "must not hold spaces"),
    ],
)
def test_a_wrong_url_is_refused_alike_by_every_tool_and_not_quoted(
    given: str, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match=r"^the URL of the service must") as caught:
        service_url(given)
    assert complaint in str(caught.value)
    with pytest.raises(BenchmarkError) as refused:
        ServiceClient(given)
    parser = argparse.ArgumentParser()
    add_service_arguments(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(["--url", given])
    said = capsys.readouterr().err
    assert str(refused.value) == str(caught.value)
    assert str(caught.value) in said
    assert "s3cr3t" not in said + str(caught.value)
