"""Tests the channel between the parent and a worker."""

import asyncio
import socket

from service.processes.control_channel import Alive, AskMetrics, Stop, open_channel


async def test_messages_of_any_size_arrive_whole_and_in_their_order() -> None:
    ours, theirs = socket.socketpair()
    left, right = await open_channel(ours), await open_channel(theirs)
    sent = [Alive(b"x" * 1_000_000, answers=3), AskMetrics(), Stop(2.5)]
    for message in sent:
        left.send(message)
    assert [await right.receive() for _ in sent] == sent
    await asyncio.gather(left.close(), right.close())


async def test_the_end_of_a_peer_is_seen_also_in_the_middle_of_a_message() -> None:
    ours, theirs = socket.socketpair()
    channel = await open_channel(ours)
    theirs.sendall(b"\x00\x00\x01\x00abc")
    theirs.close()
    assert await channel.receive() is None
    channel.send(AskMetrics())  # lost, and no error
    await channel.close()


async def test_a_peer_that_takes_nothing_is_seen() -> None:
    ours, theirs = socket.socketpair()
    channel = await open_channel(ours)
    assert not channel.is_backed_up
    channel.send(Alive(b"x" * 5_000_000))
    assert channel.is_backed_up
    theirs.close()
    await channel.close()
