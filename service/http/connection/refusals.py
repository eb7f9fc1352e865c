"""Lists why a connection is refused, each with the response that says so where one can still be sent.

A refusal is written by the protocol itself, before or beside any application, so it is bytes made once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus

from service.http.problems import MEDIA_TYPE, problem


@dataclass(frozen=True, slots=True)
class Refusal:
    """One reason to refuse a connection.

    Attributes:
        reason: label value in ``msr_connections_refused_total``, one for each refusal below.
        detail: sentence about what is wrong, for the response and for the log.
        status: status of the response; None where the connection is only closed.
        load: whether the service has too much to do, so that its operator should know.
        content: response after the status line and the date; empty without a response.
    """

    reason: str
    detail: str
    status: HTTPStatus | None = None
    load: bool = False
    content: bytes = b""

    def response(self, default_headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        """Returns the whole response, with the headers that the server sends in every one."""
        assert self.status is not None
        lines = [f"HTTP/1.1 {self.status.value} {self.status.phrase}\r\n".encode("ascii")]
        lines += [b"%b: %b\r\n" % header for header in default_headers]
        return b"".join((*lines, self.content))


def _answered(
    status: HTTPStatus, reason: str, detail: str, *, retry_after: int | None = None, load: bool = False
) -> Refusal:
    """Makes a refusal with a problem document (RFC 9457).

    Args:
        status: status of the response.
        reason: label value of the metric.
        detail: sentence about what is wrong and what to do.
        retry_after: seconds after which to try again; None for no such header.
        load: whether the service has too much to do.
    """
    titles = {HTTPStatus.BAD_REQUEST: "Bad request", HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "Body too large"}
    body = bytes(problem(status.value, titles.get(status, status.phrase.capitalize()), detail).body)
    head = f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n"
    if retry_after is not None:
        head += f"retry-after: {retry_after}\r\n"
    return Refusal(reason, detail, status, load, f"{head}\r\n".encode("ascii") + body)


MALFORMED = _answered(HTTPStatus.BAD_REQUEST, "malformed", "what was sent is not HTTP/1.1")
HEAD_TIME = _answered(HTTPStatus.REQUEST_TIMEOUT, "head_time", "the head of the request did not come in time")
BODY_TIME = _answered(HTTPStatus.REQUEST_TIMEOUT, "body_time", "the body of the request did not come in time")
URL_SIZE = _answered(HTTPStatus.REQUEST_URI_TOO_LONG, "url_size", "the URL may have 8,192 bytes")
HEAD_SIZE = _answered(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "head_size",
    "the head of a request may have 32,768 bytes and 100 lines",
)
FRAMING = _answered(
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "framing",
    "the body comes in too many chunks, or with too much around them: send larger chunks",
)
DISPLACED = _answered(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "displaced",
    "there are too many connections, and this one was closed for a new one: try again",
    retry_after=1,
    load=True,
)
CROWDED = _answered(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "crowded",
    "there are too many connections, all of them with a request under way: try again",
    retry_after=1,
    load=True,
)
MEMORY = _answered(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "memory",
    "the requests under way are too large together, and this is the largest: try again",
    retry_after=1,
    load=True,
)
PIPELINED = Refusal("pipelined", "too many requests were sent before the answer to the first of them")
SILENT = Refusal("silent", "nothing was sent after the connection was made")
UNREAD = Refusal("unread", "the client does not take what it was sent")
