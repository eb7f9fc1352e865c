"""Tests that the port is opened before anything else, and closed without losing a connection."""

from __future__ import annotations

import errno
import os
import socket
import sys
from contextlib import closing

import pytest
from redis_process import free_port

from service.errors import ConfigurationError
from service.processes.errors import StartFailedError
from service.processes.listener import close_for_all, hold_back, open_listeners, refusal, waiting_connections


def listening(host: str = "127.0.0.1") -> socket.socket:
    """A listener of ours that listens, and whose port is free."""
    (listener,) = open_listeners(host, free_port())
    listener.listen(16)
    return listener


def test_a_port_in_use_is_said_with_what_to_do() -> None:
    with listening() as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartFailedError, match=f"port {port} of 127.0.0.1 is in use.*MSR_PORT") as caught:
            open_listeners("127.0.0.1", port)
    assert caught.value.status == 1


def test_a_port_for_which_no_file_can_be_opened_is_not_called_in_use() -> None:
    error = refusal(OSError(errno.EMFILE, os.strerror(errno.EMFILE)), "127.0.0.1", 8000)
    assert str(error) == "MSR_HOST is '127.0.0.1', MSR_PORT is 8000: Too many open files"


@pytest.mark.parametrize(
    ("host", "sentence"),
    [
        ("no-such-host.invalid", "MSR_HOST is 'no-such-host.invalid': there is no host of this name"),
        ("a" * 300, "there is no host of this name"),
        ("192.0.2.1", "MSR_HOST is '192.0.2.1': this machine has no such address"),
    ],
)
def test_a_host_that_is_not_this_machine_is_said(host: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        open_listeners(host, free_port())


def test_a_port_that_needs_privileges_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)  # tests may run as a user who may
    with pytest.raises(ConfigurationError, match="MSR_PORT is 80: this user may not listen on it"):
        open_listeners("127.0.0.1", 80)


def test_connections_are_refused_until_it_listens() -> None:
    (listener,) = open_listeners("127.0.0.1", free_port())
    with listener, pytest.raises(ConnectionRefusedError):
        socket.create_connection(listener.getsockname())


@pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")
def test_all_addresses_of_a_name_are_listened_on_and_two_colons_take_ipv4_too() -> None:
    try:
        (listener,) = open_listeners("::", free_port())
    except ConfigurationError:
        pytest.skip("this machine has no IPv6")
    with listener:
        listener.listen()
        port = listener.getsockname()[1]
        for address in ("127.0.0.1", "::1"):
            socket.create_connection((address, port)).close()


@pytest.mark.skipif(sys.platform != "linux", reason="needs socket filters")
def test_what_came_before_the_end_is_accepted_and_what_comes_after_it_is_refused() -> None:
    listener = listening()
    address = listener.getsockname()
    with socket.create_connection(address) as early, socket.socket() as late:
        hold_back([listener])
        late.setblocking(False)
        with pytest.raises(BlockingIOError):
            late.connect(address)
        (accepted,) = waiting_connections([listener])
        close_for_all([listener])
        with accepted:
            accepted.sendall(b"here")
            assert early.recv(4) == b"here"
        # The late one is not connected, so nothing of it can be lost; it tries again and is refused.
        with pytest.raises(OSError, match="not connected"):
            late.getpeername()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


def test_a_listener_is_closed_for_the_processes_that_share_it_too() -> None:
    listener = listening()
    address = listener.getsockname()
    with closing(listener.dup()) as shared:
        close_for_all([listener])
        assert list(waiting_connections([shared])) == []
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
