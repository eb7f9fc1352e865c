"""URLs of Redis: what is refused before anything connects, and that no sentence holds a part of a secret."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import ConfigurationError
from service.settings import read_settings
from service.stores.redis import is_accepted
from service.stores.redis_server.urls import FORM, address_of, problem_of


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis://user:p%23ss@host:6380/15",
        "redis://[::1]:6379",
        "rediss://host/0?ssl_cert_reqs=none&ssl_check_hostname=False",
        "unix:///run/redis.sock?db=3",
        "unix://:s3cr3t@/run/redis.sock",
        "redis://host?db=3&client_name=shop",
    ],
)
def test_a_url_that_says_what_it_means_is_taken(url: str) -> None:
    assert problem_of(url) is None
    assert is_accepted(url)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("localhost:6379", "must begin with redis://, rediss:// or unix://"),
        ("redis://host/0?decode_responses=true", "has 'decode_responses', which the service does not take"),
        ("redis://host?protocol=3", "has 'protocol', which the service does not take"),
        ("redis://host?foo=1", "has 'foo', which the service does not take"),
        ("redis://host?pasword=x", "did you mean 'password'?"),
        ("redis://host?socket_timeout=9", "has 'socket_timeout'"),
        ("redis://host?db=one", "has 'db' with a value that it cannot have"),
        ("redis://host/1?db=2", "names a database both in its path and as 'db'"),
        ("redis://host?db=1&db=2", "has an option twice"),
        ("redis://host?ssl_cert_reqs=none", "has 'ssl_cert_reqs', which is for rediss:// alone"),
        ("redis://host?db=", "has 'db' with a value"),
        ("redis://host/shop", FORM),
        ("redis://host/1/2", FORM),
        ("redis://host:70000", FORM),
        ("redis://host/0#1", FORM),
        ("redis://[::1", FORM),
        ("unix://", FORM),
    ],
)
def test_a_url_that_would_not_do_what_it_says_is_refused_by_name(url: str, sentence: str) -> None:
    problem = problem_of(url)
    assert problem is not None
    assert sentence in problem


@given(st.text("abcé1 #/?@%:&=[]\\+", min_size=1, max_size=12))
def test_no_sentence_holds_a_part_of_a_password(text: str) -> None:
    for s3cr3t in (f"12{text}", f"qqq{text}zzz", f"qqq{text}"):
        problem = problem_of(f"redis://:{s3cr3t}zzzz@host:6379/0")
        assert problem is None or not any(part in problem for part in ("qqq", "zzz")), s3cr3t


@pytest.mark.parametrize("name", ["MSR_REDIS_URL", "MSR_EVENTS_URL"])
@pytest.mark.parametrize(
    "s3cr3t", ["hunter#22", "hunter/22", "hunter?22", "12#hunter22", "%zz[hunter", "hunter@2@2"]
)
def test_a_start_with_a_wrong_url_names_the_setting_and_no_secret(
    monkeypatch: pytest.MonkeyPatch, name: str, s3cr3t: str
) -> None:
    monkeypatch.setenv(name, f"redis://:{s3cr3t}@host:6379/0?foo=1")
    with pytest.raises(ConfigurationError) as caught:
        read_settings()
    assert str(caught.value).startswith(f"{name}: ")
    assert "hunter" not in str(caught.value)
    assert "22" not in str(caught.value)


@pytest.mark.parametrize(
    ("cache", "events"),
    [
        ("redis://localhost", "redis://:s3cr3t@127.0.0.1:6379/0"),
        ("redis://Cache.example/2", "rediss://cache.example./?db=2"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock?db=0"),
    ],
)
def test_the_caches_database_is_refused_for_events(
    monkeypatch: pytest.MonkeyPatch, cache: str, events: str
) -> None:
    monkeypatch.setenv("MSR_REDIS_URL", cache)
    monkeypatch.setenv("MSR_EVENTS_URL", events)
    with pytest.raises(ConfigurationError, match="MSR_EVENTS_URL names the same database as MSR_REDIS_URL"):
        read_settings()


def test_two_databases_are_told_apart() -> None:
    urls = ["redis://h", "redis://h/1", "redis://h:6380", "redis://i", "unix:///h", "unix:///h?db=1"]
    assert len({address_of(url) for url in urls}) == len(urls)
