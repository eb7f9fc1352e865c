"""Whatever a client sends, only so much of it is read, and the refusal reaches the client."""

import asyncio

import pytest
from raw_http import GET, app_served, until

HEAD = b"GET / HTTP/1.1\r\nhost: x\r\n"
POST = b"POST /b HTTP/1.1\r\nhost: x\r\n"
CHUNKED = POST + b"transfer-encoding: chunked\r\n\r\n"

REFUSED = {
    "lines without end": (HEAD, b"a: b\r\n" * 50_000, 431, "head_size"),
    "a line without end": (HEAD + b"a: ", b"b" * 300_000, 431, "head_size"),
    "a name without end": (HEAD, b"b" * 300_000, 431, "head_size"),
    "a long line in one piece": (HEAD + b"a: " + b"b" * 40_000 + b"\r\n\r\n", b"", 431, "head_size"),
    "too many lines in one piece": (HEAD + b"a: b\r\n" * 100 + b"\r\n", b"", 431, "head_size"),
    "a URL without end": (b"GET /", b"a" * 300_000, 414, "url_size"),
    "a long URL": (b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", b"", 414, "url_size"),
    "blank lines without end": (b"", b"\r\n" * 30_000, 431, "head_size"),
    "trailers without end": (CHUNKED + b"2\r\n{}\r\n0\r\n", b"a: b\r\n" * 200, 431, "head_size"),
    "many tiny chunks": (CHUNKED, b"1\r\na\r\n" * 20_000, 413, "framing"),
    "a chunk extension without end": (CHUNKED + b"1;", b"a" * 200_000, 413, "framing"),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01", b"", 400, "malformed"),
    "another version": (b"GET / HTTP/9.9\r\n\r\n", b"", 400, "malformed"),
    "an invalid name": (HEAD + b"a\x00b: c\r\n\r\n", b"", 400, "malformed"),
    "an invalid value": (HEAD + b"a: b\x01\r\n\r\n", b"", 400, "malformed"),
    "a path that is none": (b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n", b"", 400, "malformed"),
    "two lengths": (POST + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}", b"", 400, "malformed"),
    "a length and chunks": (
        POST + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n{}", b"", 400, "malformed"
    ),
    "a length of many digits": (POST + b"content-length: " + b"9" * 30 + b"\r\n\r\n", b"", 400, "malformed"),
    "a negative length": (POST + b"content-length: -5\r\n\r\n", b"", 400, "malformed"),
    "a chunk that is none": (CHUNKED + b"ZZ\r\n", b"", 400, "malformed"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
async def test_a_client_reads_why_its_request_is_refused_while_it_still_sends(
    what: str, clock: object
) -> None:
    first, more, status, reason = REFUSED[what]
    async with app_served(max_body_bytes=1024) as app, app.client(first) as client:
        client.send(more)
        client.send(more)
        answer = await client.answer()
        assert answer.status == status
        assert answer.headers["connection"] == "close"
        assert answer.problem["detail"]
        client.writer.write_eof()
        assert await client.ended()  # no reset
        assert app.refused(reason) == 1
        assert set(app.left) <= {"/b"}


async def test_what_is_as_large_as_allowed_is_answered(clock: object) -> None:
    lines = b"".join(b"a%d: %b\r\n" % (n, b"b" * 300) for n in range(98))
    request = b"POST /" + b"a" * 2_000 + b" HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n" + lines
    async with app_served() as app, app.client() as client:
        for at in range(0, len(request), 5_000):
            client.send(request[at : at + 5_000])
            await asyncio.sleep(0)
        client.send(b"\r\n" + b"2;ext=1\r\n{}\r\n" * 1_000 + b"0\r\ntrailer: x\r\n\r\n")
        answer = await client.answer()
        assert (answer.status, answer.body[-5:]) == (200, b" 2000")
        assert (await client.ask("next")).status == 200


async def test_the_answers_to_earlier_requests_come_before_the_end(clock: object) -> None:
    async with app_served() as app, app.client(GET % b"1" + GET % b"2" + b"rubbish\r\n\r\n") as client:
        assert [(await client.answer()).body for _ in range(2)] == [b"/1 0", b"/2 0"]
        assert await client.ended()
        assert app.refused("malformed") == 1


async def test_requests_sent_in_advance_are_answered_up_to_a_number(clock: object) -> None:
    async with app_served() as app, app.client(GET % b"wait" + (GET % b"a") * 5_000) as client:
        await until(lambda: app.refused("pipelined") == 1)
        app.released.set()
        answers = [await client.answer() for _ in range(9)]
        assert {answer.status for answer in answers} == {200}
        assert await client.ended()
        assert len(app.begun) == 9


async def test_a_request_after_one_that_waits_is_answered_in_order(clock: object) -> None:
    async with app_served() as app:
        chunked = b"POST /b HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n"
        async with app.client(GET % b"wait" + chunked) as client:
            await until(lambda: app.begun == ["/wait"])
            app.released.set()
            assert (await client.answer()).body == b"/wait 0"
            client.send(b"0\r\n\r\n")
            assert (await client.answer()).body == b"/b 2"


@pytest.mark.parametrize("body", [b"", b"content-length: 2\r\n"])
async def test_an_offer_of_another_protocol_is_answered_as_if_it_were_none(
    body: bytes, caplog: pytest.LogCaptureFixture, clock: object
) -> None:
    offer = b"POST /a HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n" + body + b"\r\n"
    async with app_served() as app, app.client(offer + (b"{}" if body else b"")) as client:
        assert (await client.answer()).body == (b"/a 2" if body else b"/a 0")
        assert (await client.ask("again")).status == 200
    assert not caplog.records


@pytest.mark.parametrize("path", ["early", "early-close"])
async def test_an_answer_before_the_end_of_the_body_reaches_a_client_that_sends_on(
    path: str, clock: object
) -> None:
    body = b"x" * 6_000_000  # more than the sockets hold
    head = b"POST /%b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % (path.encode(), len(body))
    async with app_served(max_body_bytes=1_000_000) as app, app.client(head + body) as client:
        await client.writer.drain()
        assert (await client.answer()).status == 401
        if path == "early":
            assert (await client.ask("next")).status == 200
        else:
            client.writer.write_eof()
            assert await client.ended()


async def test_a_client_that_would_have_waited_to_send_its_body_is_not_misunderstood(clock: object) -> None:
    expecting = b"POST /early HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 25\r\n\r\n"
    async with app_served() as app, app.client(expecting) as client:
        assert (await client.answer()).status == 401
        client.send(GET % b"not-a-body")
        client.writer.write_eof()
        assert await client.ended()
        assert app.begun == ["/early"]


async def test_requests_that_are_too_large_together_cost_the_largest_its_place(
    monkeypatch: pytest.MonkeyPatch, clock: object
) -> None:
    monkeypatch.setattr("service.http.connection.open_connections.MOST_HELD_BYTES", 100_000)
    head = b"POST /b HTTP/1.1\r\nhost: x\r\ncontent-length: 60000\r\n\r\n"
    async with app_served() as app, app.client(head + b"x" * 30_000) as small:
        await until(lambda: app.begun == ["/b"])
        async with app.client(head + b"x" * 50_000) as large, app.client(head + b"x" * 40_000) as last:
            answer = await large.answer()
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert answer.problem["title"]
            last.send(b"x" * 20_000)
            assert (await last.answer()).body == b"/b 60000"
            small.send(b"x" * 30_000)  # what was answered is held no longer
            assert (await small.answer()).body == b"/b 60000"
            assert app.refused("memory") == 1


async def test_only_one_line_is_logged_however_many_are_refused(
    clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    async with app_served() as app:
        for _ in range(20):
            async with app.client(b"rubbish\r\n\r\n") as client:
                assert (await client.answer()).status == 400
        assert len([r for r in caplog.records if r.name == "service.connections"]) <= 1
        assert app.refused("malformed") == 20
