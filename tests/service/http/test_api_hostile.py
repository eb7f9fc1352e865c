"""Malformed and hostile requests: never a 500, and every error is a problem."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from service_process import RunningService, start_service

EXAMPLES = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def service(bundle_folder: Path) -> Iterator[RunningService]:
    with start_service(bundle_folder, log_level="warning") as service:
        yield service
        assert "Traceback" not in service.log


@pytest.fixture(scope="module")
def client(service: RunningService) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def api_schema(service: RunningService) -> Any:
    return schemathesis.openapi.from_url(f"{service.url}/openapi.json")


OPERATIONS = [
    ("/recommend", "POST"),
    ("/events", "POST"),
    ("/items", "GET"),
    ("/items/{item_id}", "GET"),
    ("/items/{item_id}/image", "GET"),
    ("/users", "GET"),
    ("/users/{user_id}/history", "GET"),
    ("/users/{user_id}", "DELETE"),
    ("/health/live", "GET"),
    ("/health/ready", "GET"),
    ("/metrics", "GET"),
]


def assert_fair(status: int, content_type: str, body: bytes) -> None:
    assert status < 500, body[:500]
    if status >= 400:
        assert content_type == "application/problem+json", (status, body[:500])


def test_every_operation_of_the_api_description_is_tried(api_schema: Any) -> None:
    described = {
        (operation.ok().path, operation.ok().method.upper()) for operation in api_schema.get_all_operations()
    }
    assert described == set(OPERATIONS)


WITHOUT_INPUT = ("/health/live", "/health/ready", "/metrics")  # nothing about them can be wrong
CASES = [
    (*operation, mode)
    for operation in OPERATIONS
    for mode in schemathesis.GenerationMode
    if mode is schemathesis.GenerationMode.POSITIVE or operation[0] not in WITHOUT_INPUT
]


@pytest.mark.parametrize(("path", "method", "mode"), CASES)
def test_requests_made_from_the_api_description_are_answered_fairly(
    path: str, method: str, mode: schemathesis.GenerationMode, api_schema: Any
) -> None:
    operation = api_schema[path][method]

    @settings(EXAMPLES, max_examples=30)
    @given(case=operation.as_strategy(generation_mode=mode))
    def try_it(case: schemathesis.Case) -> None:
        response = case.call()
        assert_fair(response.status_code, response.headers["content-type"][0], response.content)

    try_it()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)
FIELDS = ("user_id", "history", "candidates", "exclude", "include_seen", "k", "deadline_ms")


@settings(EXAMPLES, max_examples=150)
@given(
    body=st.dictionaries(st.sampled_from(FIELDS), JSON),
    strategy=st.sampled_from(["none", "s1", "s5", "S3", "☃"]),
)
def test_known_fields_with_any_value_are_answered_fairly(
    client: httpx.Client, body: dict[str, Any], strategy: str
) -> None:
    import json

    content = json.dumps(
        body
    ).encode()  # NaN and lone surrogates included, which a strict encoder would refuse
    response = client.post(
        "/recommend",
        params={"strategy": strategy},
        content=content,
        headers={"content-type": "application/json"},
    )
    assert_fair(response.status_code, response.headers["content-type"], response.content)


@EXAMPLES
@given(content=st.binary(max_size=400), path=st.sampled_from(["/recommend", "/events", "/items", "/nowhere"]))
def test_any_bytes_are_answered_fairly(client: httpx.Client, content: bytes, path: str) -> None:
    response = client.post(path, content=content, headers={"content-type": "application/json"})
    assert_fair(response.status_code, response.headers["content-type"], response.content)


@EXAMPLES
@given(
    strategy=st.sampled_from(["none", "s1", "s3", "s4", "s5"]),
    history=st.lists(st.sampled_from([f"I{row:03d}" for row in range(48)]), min_size=1, max_size=20),
    candidates=st.none()
    | st.lists(st.sampled_from([f"I{row:03d}" for row in range(48)]), min_size=1, max_size=48),
    exclude=st.lists(st.sampled_from([f"I{row:03d}" for row in range(48)]), max_size=48),
    k=st.integers(1, 100),
    deadline_ms=st.sampled_from([None, 0, 5, 1_000]),
)
def test_any_sensible_request_brings_k_different_items_of_its_pool(
    client: httpx.Client,
    strategy: str,
    history: list[str],
    candidates: list[str] | None,
    exclude: list[str],
    k: int,
    deadline_ms: int | None,
) -> None:
    body = {
        "history": history,
        "candidates": candidates,
        "exclude": exclude,
        "k": k,
        "deadline_ms": deadline_ms,
    }
    response = client.post("/recommend", params={"strategy": strategy}, json=body)
    assert response.status_code == 200
    found = [item["item_id"] for item in response.json()["items"]]
    everything = {f"I{row:03d}" for row in range(48)} - set(history)
    pool = (everything if candidates is None else set(candidates)) - set(exclude)
    assert len(found) == len(set(found)) == min(k, len(pool))
    assert set(found) <= pool


RAW = [
    b"GET / HTTP/9.9\r\n\r\n",
    b"\x00\x01\x02\x03\r\n\r\n",
    b"POST /recommend HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n",
    b"POST /recommend HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999999999\r\n\r\n{}",
    b"POST /recommend HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",
    b"POST /recommend HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n",
    b"POST /recommend HTTP/1.1\r\nhost: x\r\nx-api-key: \xff\xfe\r\ncontent-length: 2\r\n\r\n{}",
    b"GET /items/%ff%fe HTTP/1.1\r\nhost: x\r\n\r\n",
    b"GET /items/%00/image HTTP/1.1\r\nhost: x\r\n\r\n",
    b"GET /users?limit=%ff&after=%00 HTTP/1.1\r\nhost: x\r\n\r\n",
    b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
    b"DELETE /recommend HTTP/1.1\r\nhost: x\r\n\r\n",
]


@pytest.mark.parametrize("raw", RAW, ids=range(len(RAW)))
def test_what_is_hardly_http_gets_no_500_and_the_service_lives_on(
    raw: bytes, service: RunningService, client: httpx.Client
) -> None:
    port = int(service.url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(65_536)
    assert not answer or b" 500 " not in answer.split(b"\r\n", 1)[0]
    assert client.get("/health/live").status_code == 200


def test_a_client_that_goes_away_in_the_middle_harms_no_other(
    service: RunningService, client: httpx.Client
) -> None:
    port = int(service.url.rsplit(":", 1)[1])
    body = b'{"user_id": "u1"}'
    for length in range(1, 120, 7):
        request = b"POST /recommend?strategy=s3 HTTP/1.1\r\nhost: x\r\ncontent-length: 17\r\n\r\n" + body
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(request[:length])
    assert client.post("/recommend", json={"user_id": "u1"}).status_code == 200
