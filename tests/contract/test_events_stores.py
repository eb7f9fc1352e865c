"""The contract of the stores of events; files and Redis are real ones."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis_process import RedisServer

from service.stores.base import owner_of
from service.stores.events import MAX_EVENTS_PER_USER, Appended, Event, Events, StoreFullError
from service.stores.redis import RedisConnection
from service.stores.redis_server.events import RedisEvents
from service.stores.sqlite_events import EventsLimits, SqliteEvents

OpenStore = Callable[[int], Awaitable[Events]]


@pytest.fixture(params=["sqlite", "redis"])
async def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OpenStore]:
    """A function that opens one more handle on the same store, as another worker does."""
    async with AsyncExitStack() as stack:

        async def sqlite(max_users: int) -> Events:
            events = SqliteEvents(tmp_path / "events.sqlite", EventsLimits(max_users))
            stack.push_async_callback(events.close)
            return events

        async def redis(max_users: int) -> Events:
            server: RedisServer = request.getfixturevalue("redis_server")
            connection = RedisConnection(server.url, timeout=10)
            stack.push_async_callback(connection.close)
            return RedisEvents(connection, "toys", max_users=max_users, max_bytes=10**10)

        if request.param == "redis":
            request.getfixturevalue("redis_server")  # starts it outside of the loop
        yield sqlite if request.param == "sqlite" else redis


@pytest.fixture
async def events(open_store: OpenStore) -> Events:
    return await open_store(1_000_000)


def batch(user_id: str, *items: tuple[str, int]) -> list[Event]:
    return [Event(user_id, item_id, at) for item_id, at in items]


async def test_events_are_in_the_order_of_their_times_and_those_of_one_second_in_that_of_arrival(
    events: Events,
) -> None:
    assert list(await events.get("u")) == []
    assert await events.append(batch("u", ("late", 9), ("z", 5), ("a", 5))) == Appended(3)
    await events.append(batch("u", ("m", 5), ("early", 1), ("without time", -1)))
    assert list(await events.get("u")) == ["without time", "early", "z", "a", "m", "late"]
    assert list(await events.get("another")) == []


async def test_ids_of_any_letters_are_kept_apart(events: Events) -> None:
    ids = ["ünïcode\n", "ünïcode", "a\0b", "a", "'; --", "Ａ", "𝄞" * 256]
    await events.append([Event(user_id, item_id, at) for at, item_id in enumerate(ids) for user_id in ids])
    for user_id in ids:
        assert list(await events.get(user_id)) == ids


async def test_a_repeated_event_is_stored_once(events: Events) -> None:
    named = Event("u", "a", 1, "first")
    plain = Event("u", "a", 1)
    assert await events.append([named, plain, named, plain]) == Appended(stored=2, repeated=2)
    assert await events.append([Event("u", "b", 7, "first"), plain]) == Appended(stored=0, repeated=2)
    assert await events.append([Event("u", "a", 2), Event("v", "b", 7, "first")]) == Appended(stored=2)
    assert list(await events.get("u")) == ["a", "a", "a"]
    assert list(await events.get("v")) == ["b"]


async def test_the_newest_events_of_a_user_are_kept_and_those_that_go_are_counted(events: Events) -> None:
    many = MAX_EVENTS_PER_USER
    await events.append(batch("u", *((str(at), at) for at in range(1, many + 1))))
    assert await events.append(batch("u", ("new", many + 1), ("old", 0))) == Appended(stored=2, dropped=2)
    kept = list(await events.get("u"))
    assert len(kept) == many
    assert (kept[0], kept[-1]) == ("2", "new")
    # One that went is not known any more, and goes again.
    assert await events.append(batch("u", ("old", 0))) == Appended(stored=1, dropped=1)


async def test_a_full_store_refuses_batches_with_a_new_user_whole_and_takes_those_of_others(
    open_store: OpenStore,
) -> None:
    events = await open_store(2)
    await events.append([*batch("a", ("x", 1)), *batch("b", ("x", 1))])
    with pytest.raises(StoreFullError, match="MSR_EVENTS_MAX_USERS"):
        await events.append([*batch("a", ("y", 2)), *batch("c", ("x", 1))])
    assert list(await events.get("a")) == ["x"]
    assert await events.append(batch("a", ("y", 2))) == Appended(1)
    usage = await events.usage()
    assert (usage.users, usage.max_users) == (2, 2)
    assert 0 < usage.bytes < usage.max_bytes
    assert await events.forget("a")
    assert await events.append(batch("c", ("x", 1))) == Appended(1)


async def test_a_forgotten_user_is_gone_for_every_worker_and_on_record(open_store: OpenStore) -> None:
    events, other = await open_store(10), await open_store(10)
    await events.append([*batch("u", ("a", 1)), *batch("v", ("a", 1))])
    assert list(await other.get("u")) == ["a"]
    before, _ = await other.forgotten_since(0)
    assert await events.forget("u") is True
    assert list(await other.get("u")) == list(await events.get("u")) == []
    assert list(await other.get("v")) == ["a"]
    assert await events.forget("never seen") is False
    number, owners = await other.forgotten_since(before)
    assert owners == [owner_of("u"), owner_of("never seen")]
    assert await other.forgotten_since(number) == (number, [])
    assert (await events.usage()).users == 1
    assert await other.append(batch("u", ("b", 1))) == Appended(1)
    assert list(await events.get("u")) == ["b"]


async def test_what_one_worker_has_stored_the_next_read_of_another_sees(open_store: OpenStore) -> None:
    handles = [await open_store(1_000) for _ in range(2)]
    for at in range(100):
        await handles[at % 2].append(batch(f"u{at % 3}", (str(at), at)))
        assert list(await handles[1 - at % 2].get(f"u{at % 3}"))[-1] == str(at)


async def test_concurrent_writers_lose_nothing_and_store_nothing_twice(open_store: OpenStore) -> None:
    handles = [await open_store(1_000) for _ in range(3)]
    # Every batch is sent to two handles at once, as a client does that repeats it too soon.
    sent = [
        (handle, [Event(f"u{n % 4}", f"i{n}-{at}", n, f"{n}-{at}") for at in range(20)])
        for n in range(30)
        for handle in (handles[n % 3], handles[(n + 1) % 3])
    ]
    answers = await asyncio.gather(*(handle.append(events) for handle, events in sent))
    assert sum(answer.stored for answer in answers) == sum(answer.repeated for answer in answers) == 600
    for user in range(4):
        kept = list(await handles[0].get(f"u{user}"))
        assert kept == [f"i{n}-{at}" for n in range(user, 30, 4) for at in range(20)]


class Model:
    """What the contract says, in the simplest way: lists in memory that are sorted at each reading."""

    def __init__(self) -> None:
        self.events: defaultdict[str, list[Event]] = defaultdict(list)

    def append(self, events: Sequence[Event]) -> Appended:
        stored = dropped = 0
        for event in events:
            of_user = self.events[event.user_id]
            if identity(event) not in map(identity, of_user):
                of_user.append(event)
                stored += 1
        return Appended(stored, len(events) - stored, dropped)

    def get(self, user_id: str) -> list[str]:
        return [event.item_id for event in sorted(self.events[user_id], key=lambda event: event.timestamp)]

    def forget(self, user_id: str) -> bool:
        return bool(self.events.pop(user_id, []))


def identity(event: Event) -> tuple[object, ...]:
    return (event.event_id,) if event.event_id is not None else (event.item_id, event.timestamp)


users = st.sampled_from(["u", "v", "ü\0"])
operations = st.lists(
    st.one_of(
        st.lists(
            st.builds(
                Event, users, st.sampled_from("abc"), st.integers(-2, 4), st.sampled_from([None, "1", "2"])
            ),
            min_size=1,
            max_size=8,
        ),
        users,
    ),
    max_size=10,
)


@settings(max_examples=25, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=operations)
async def test_any_order_of_batches_and_forgotten_users_is_as_in_the_simple_model(
    steps: list[list[Event] | str], open_store: OpenStore
) -> None:
    first, second, model = await open_store(100), await open_store(100), Model()
    for user_id in ("u", "v", "ü\0"):
        await first.forget(user_id)
    for number, step in enumerate(steps):
        writer, reader = (first, second) if number % 2 else (second, first)
        if isinstance(step, str):
            assert await writer.forget(step) == model.forget(step)
        else:
            assert await writer.append(step) == model.append(step)
        for user_id in ("u", "v", "ü\0"):
            assert list(await reader.get(user_id)) == list(await writer.get(user_id)) == model.get(user_id)
