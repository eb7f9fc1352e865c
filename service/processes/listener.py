"""Opens the port that the service listens on, and closes it so that no connection is lost in between."""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress

from service.errors import ConfigurationError
from service.processes.errors import StartFailedError


def open_listeners(host: str, port: int) -> list[socket.socket]:
    """Binds a socket to every address of a host, without listening yet: connections are refused until then.

    Args:
        host: name or address of this machine; ``::`` takes IPv4 too.
        port: TCP port, 1 to 65535.

    Raises:
        StartFailedError: another process listens there.
        ConfigurationError: the host is not this machine, or the port needs privileges.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise ConfigurationError(f"MSR_HOST is {host!r}: there is no host of this name") from None
    listeners: list[socket.socket] = []
    refused: OSError | None = None
    for family, address in dict.fromkeys((family, address) for family, _, _, _, address in found):
        try:
            listeners.append(_bound(family, address))
        except OSError as error:
            # A name may have an address that this machine does not have, such as ::1 without IPv6.
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                _close(listeners)
                raise refusal(error, host, port) from None
            refused = error
    if not listeners:
        assert refused is not None
        raise refusal(refused, host, port)
    return listeners


def _bound(family: int, address: tuple[object, ...]) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Connections of the process before, in TIME_WAIT, would keep the port for a minute.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            every = address[0] == "::"
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not every))
        listener.setblocking(False)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def refusal(error: OSError, host: str, port: int) -> Exception:
    """Returns the error about an address that cannot be listened on, in words."""
    match error.errno:
        case errno.EADDRINUSE:
            return StartFailedError(
                f"port {port} of {host} is in use: stop what listens there, or set MSR_PORT to another one"
            )
        case errno.EACCES:
            return ConfigurationError(
                f"MSR_PORT is {port}: this user may not listen on it, choose one from 1024 on"
            )
        case errno.EADDRNOTAVAIL:
            return ConfigurationError(f"MSR_HOST is {host!r}: this machine has no such address")
        case _:
            return ConfigurationError(f"MSR_HOST is {host!r}, MSR_PORT is {port}: {error.strerror}")


def hold_back(listeners: Sequence[socket.socket]) -> None:
    """Drops all further connection requests, on Linux, before the last ones that came are accepted.

    A client asks again after a second (RFC 6298, section 2) and is then refused, or reaches the next process
    on this port. Without it, a connection that comes between the last ``accept`` and the close is reset.
    """
    if sys.platform != "linux":
        return
    program = b"".join(struct.pack("=HBBI", *step) for step in _DROP_SYN)
    held = ctypes.create_string_buffer(program, len(program))
    filtering = struct.pack("HL", len(_DROP_SYN), ctypes.addressof(held))
    for listener in listeners:
        with suppress(OSError):  # a sandbox without filters
            listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filtering)


_SO_ATTACH_FILTER = 26
# A classic BPF program (socket(7), Documentation/networking/filter.rst). It reads the flags of the TCP header
# and drops what has SYN and not ACK; handshakes under way come to their end.
_DROP_SYN = (
    (0x30, 0, 0, 13),  # load the byte at 13
    (0x54, 0, 0, 0x12),  # and SYN | ACK
    (0x15, 0, 1, 0x02),  # SYN alone?
    (0x06, 0, 0, 0),  # drop
    (0x06, 0, 0, 0xFFFFFFFF),  # take
)


def waiting_connections(listeners: Sequence[socket.socket]) -> Iterator[socket.socket]:
    """Accepts the connections that wait now."""
    for listener in listeners:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:  # none is left, or another process has closed the listener for all
                break
            connection.setblocking(False)
            yield connection


def close_for_all(listeners: Sequence[socket.socket]) -> None:
    """Closes listeners in this process and in those that share them: connections are refused from now on."""
    for listener in listeners:
        with suppress(OSError):  # not listening, or not any more
            listener.shutdown(socket.SHUT_RDWR)
    _close(listeners)


def _close(listeners: Sequence[socket.socket]) -> None:
    for listener in listeners:
        listener.close()
