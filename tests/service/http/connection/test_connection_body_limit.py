"""Bodies over the limit are refused by the application; the client can read that while it still sends."""

from typing import Any

import pytest
from raw_http import App, app_served

from service.http.middleware.body_limit import BodyLimit

LIMIT = 1_000
POST = b"POST /b HTTP/1.1\r\nhost: x\r\n"


def limited(app: App) -> Any:
    limit = BodyLimit(app, LIMIT)

    async def around(scope: Any, receive: Any, send: Any) -> None:
        scope["state"]["request_id"] = "r"
        await limit(scope, receive, send)

    return around


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_client_that_still_sends_a_large_body_reads_the_refusal(chunked: bool, clock: object) -> None:
    body = b"x" * 6_000_000
    framing = (
        b"transfer-encoding: chunked\r\n\r\n5b8d80\r\n" if chunked else b"content-length: 6000000\r\n\r\n"
    )
    async with app_served(around=limited) as app, app.client(POST + framing + body) as client:
        answer = await client.answer()
        assert (answer.status, answer.problem["request_id"]) == (413, "r")
        assert await client.ended()
        assert app.begun == []


@pytest.mark.parametrize(
    ("digits", "status"), [(b"0" * 5_000 + b"2", 200), (b"0" * 5_000 + b"1001", 413), (b"1000000000000", 413)]
)
async def test_a_length_may_have_any_number_of_digits(digits: bytes, status: int, clock: object) -> None:
    request = POST + b"content-length: " + digits + b"\r\n\r\n{}"
    async with app_served(around=limited) as app, app.client(request) as client:
        assert (await client.answer()).status == status


async def test_a_chunked_body_that_never_ends_is_not_taken_for_the_whole(clock: object) -> None:
    start = POST + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n"
    async with app_served(around=limited) as app, app.client(start) as client:
        assert (await client.answer()).status == 408
        assert app.begun == []
