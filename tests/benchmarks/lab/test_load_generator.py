from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.errors import BenchmarkError
from benchmarks.lab.load_generator import _generate, encode_post, generate
from benchmarks.lab.rounds import Limit, Ratio, interleaved

BODY = b'{"k": 1}'


class Server:
    """Answers raw HTTP after a pause, in two pieces, and counts what happens."""

    def __init__(self, pause: float = 0.0, status: str = "200 OK", hang_up_after: int | None = None) -> None:
        self.pause, self.status, self.hang_up_after = pause, status, hang_up_after
        self.served = self.under_way = self.peak = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"POST /recommend HTTP/1.1\r\nHost: h\r\n")
                assert await reader.readexactly(len(BODY)) == BODY
                self.under_way += 1
                self.peak = max(self.peak, self.under_way)
                await asyncio.sleep(self.pause)
                self.served += 1
                self.under_way -= 1
                if self.hang_up_after is not None and self.served >= self.hang_up_after:
                    break
                writer.write(f"HTTP/1.1 {self.status}\r\nContent-Length: 4\r\n".encode())
                await writer.drain()
                await asyncio.sleep(0)
                writer.write(b"\r\nbody")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    @asynccontextmanager
    async def here(self) -> AsyncIterator[int]:
        """Serve in the test's own event loop; yields the port."""
        server = await asyncio.start_server(self.answer, "127.0.0.1", 0)
        try:
            yield int(server.sockets[0].getsockname()[1])
        finally:
            await self._stop(server)

    @contextmanager
    def running(self) -> Iterator[int]:
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        listen = asyncio.start_server(self.answer, "127.0.0.1", 0)
        server = asyncio.run_coroutine_threadsafe(listen, loop).result(5)
        try:
            yield int(server.sockets[0].getsockname()[1])
        finally:
            asyncio.run_coroutine_threadsafe(self._stop(server), loop).result(5)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(5)
            loop.close()

    async def _stop(self, server: asyncio.Server) -> None:
        server.close()
        others = [task for task in asyncio.all_tasks() if "Server.answer" in repr(task.get_coro())]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


REQUESTS = [encode_post("h", "/recommend", BODY)]


@pytest.mark.usefixtures("clock")
async def test_every_connection_has_one_request_under_way_until_the_time_is_over() -> None:
    server = Server(pause=0.02)
    async with server.here() as port:
        found = await _generate("127.0.0.1", port, REQUESTS, connections=4, seconds=0.39)
    assert server.peak == 4
    assert len(found.latencies) == server.served
    assert server.served == 4 * 20
    assert found.latencies == pytest.approx([0.02] * 80)
    assert found.seconds == pytest.approx(0.4)
    assert found.per_second == pytest.approx(server.served / found.seconds)


def test_answers_other_than_200_are_errors_and_not_latencies() -> None:
    server = Server(status="429 Too Many Requests", pause=0.01)
    with server.running() as port, pytest.raises(BenchmarkError, match="answered no request with 200"):
        generate("127.0.0.1", port, REQUESTS, connections=1, seconds=0.05)


def test_a_server_that_hangs_up_ends_the_measurement() -> None:
    with Server(hang_up_after=3).running() as port, pytest.raises(BenchmarkError, match="hung up"):
        generate("127.0.0.1", port, REQUESTS, connections=1, seconds=5)


def test_no_server_is_one_sentence() -> None:
    with pytest.raises(BenchmarkError, match=r"cannot load 127\.0\.0\.1:9"):
        generate("127.0.0.1", 9, REQUESTS, connections=1, seconds=1)


@given(st.integers(1, 7), st.integers(1, 4))
def test_rounds_measure_every_way_once_each_and_turn_the_order_around(rounds: int, ways: int) -> None:
    calls: list[str] = []
    names = [f"w{way}" for way in range(ways)]
    found = interleaved({name: lambda name=name: calls.append(name) or len(calls) for name in names}, rounds)
    assert all(len(values) == rounds for values in found.values())
    for number in range(rounds):
        expected = names if number % 2 == 0 else names[::-1]
        assert calls[number * ways : (number + 1) * ways] == expected


def test_a_round_that_was_slow_for_both_does_not_move_the_ratio() -> None:
    assert Ratio.of([1.0, 10.0, 1.0], [2.0, 20.0, 2.0]) == Ratio(0.5, 0.5, 0.5)
    with pytest.raises(ValueError, match="zip"):
        Ratio.of([1.0], [1.0, 2.0])


def test_a_ratio_comes_with_its_spread_over_the_rounds() -> None:
    found = Ratio.of([1.0, 4.0, 3.0], [2.0, 2.0, 2.0])
    assert (found.median, found.low, found.high) == (1.5, 0.5, 2.0)
    assert (str(found), found.spread) == ("1.50", "0.50–2.00")


@pytest.mark.parametrize(
    ("limit", "ratio", "said"),
    [
        (Limit("speed", least=2.0), 2.0, "speed at least 2: 2.000, met"),
        (Limit("speed", least=2.0), 1.999, "speed at least 2: 1.999, not met"),
        (Limit("p99", most=1.5), 1.5, "p99 at most 1.5: 1.500, met"),
        (Limit("p99", most=1.5), 1.501, "p99 at most 1.5: 1.501, not met"),
        (Limit("p99", most=1.5), None, "p99 at most 1.5: not measured in this run"),
    ],
)
def test_a_limit_says_whether_it_was_met(limit: Limit, ratio: float | None, said: str) -> None:
    found = None if ratio is None else Ratio(ratio, ratio, ratio)
    assert limit.verdict(found) == said
    assert limit.broken_by(found) == said.endswith("not met")
