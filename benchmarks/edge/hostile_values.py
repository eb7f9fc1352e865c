"""Lists what ill-meaning or broken clients send: texts, values, bodies, headers, and what is hardly HTTP."""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from typing import Any

# Each constant is drawn from by ``fuzz_requests``; a value that broke something once stays in it for good.

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY", "get", "FOO")
OTHER_PATHS = (
    "/", "//", "/docs", "/docs/", "/redoc", "/openapi.json", "/nowhere", "/items/", "/users/", "/recommend/",
    "/items//image", "/items/../metrics", "/static/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd",
    "/favicon.ico",
    "/health", "/METRICS", "/items/%", "/items/%zz", "/items/%00", "/items/%ff%fe", "/recommend;x=1", "/.env",
)  # fmt: skip
HOSTILE_TEXTS = (
    "", " ", "\0", "\ud800", "\ufffe", "\u202e", "a" * 256, "a" * 257, "a" * 5_000, "../../etc/passwd", "/",
    "//",
    "<script>alert(1)</script>", "' OR 1=1 --", '"', "{{7*7}}", "${jndi:ldap://x}", "%s%n%x", "%00",
    "\r\nX-A: b",
    "null", "NaN", "-0", "1e999", "１２", "𝕏", "é" * 100, "e " * 60, '"a" AND b*', "a:b", "msr:*", "☃",
)  # fmt: skip
HOSTILE_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2**31, 2**63, 2**64, -(2**63), 10**400, 0.5, -0.0, 1e308, float("nan"),
    float("inf"),
    [], {}, [[]], [None], {"": None}, {"a": {"b": []}}, ["x"] * 2_001, ["a" * 300],
)  # fmt: skip
ODD_BODIES = (
    b"", b"{", b"[", b"nul", b'"', b"\xff\xfe", b"\xef\xbb\xbf{}", b"{}{}", b"[" * 50_000, b'{"a":' * 20_000,
    b'{"k":1,"k":2}', '{"user_id":"u"}'.encode("utf-16"), gzip.compress(b'{"user_id":"u"}'), b"user_id=u&k=3",
    b'--x\r\nContent-Disposition: form-data; name="f"; filename="g"\r\n\r\n1\r\n--x--\r\n', b'{"k":1e400}',
    b'{"k":' + b"9" * 5_000 + b"}", b'{"user_id":"\\ud800"}', b'{"\\u0000":1}',
    b'{"user_id":"' + b"a" * 300_000 + b'"}',
    b'{"user_id":"' + b"a" * 1_100_000 + b'"}', b"{" + b",".join(b'"k%d":1' % i for i in range(3_000)) + b"}",
)  # fmt: skip
ODD_HEADERS: Mapping[bytes, Sequence[bytes]] = {
    b"Accept": (b"text/event-stream", b"text/html", b"*/*;q=0", b"application/problem+json", b"\xff",
        b"," * 2_000),
    b"Accept-Encoding": (b"gzip, br, zstd", b"identity;q=0", b"*;q=nan"),
    b"Authorization": (b"Bearer", b"Bearer wrong", b"Basic !!", b"Basic Og==", b"Basic dTp3cm9uZw==",
        b"\xc3\x28"),
    b"X-API-Key": (b"", b"wrong", b"\xff\xfe"),
    b"Connection": (b"close", b"keep-alive, x", b"upgrade"),
    b"Content-Encoding": (b"gzip", b"identity", b"br, gzip"),
    b"Cookie": (b"a=b; c", b"=" * 3_000),
    b"Expect": (b"100-continue", b"200-ok"),
    b"If-Modified-Since": (b"Thu, 01 Jan 2099 00:00:00 GMT", b"yesterday"),
    b"If-None-Match": (b"*", b'"x"', b'W/"'),
    b"Origin": (b"null", b"https://evil.example", b"http://127.0.0.1", b"x" * 300, b"\xff"),
    b"Range": (b"bytes=0-0", b"bytes=9999999-", b"bytes=-", b"bytes=0-1,3-4", b"items=1",
        b"bytes=" + b"0-1," * 500),
    b"Sec-Fetch-Site": (b"cross-site", b"same-origin", b"x"),
    b"Sec-Fetch-Mode": (b"navigate", b"no-cors"),
    b"Upgrade": (b"websocket", b"h2c"),
    b"X-Forwarded-For": (b"1.2.3.4", b"::1, x", b"," * 500),
    b"X-Forwarded-Host": (b"evil.example",),
    b"X-Forwarded-Proto": (b"https", b"javascript"),
    b"X-HTTP-Method-Override": (b"DELETE",),
    b"X-Request-ID": (b"r1", b"a" * 3_000, b"\xff", b"{}"),
    b"X-Long": (b"a" * 9_000, b"a" * 70_000),
    b"traceparent": (b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", b"x"),
}  # fmt: skip
CONTENT_TYPES = (
    b"application/json; charset=utf-16", b"APPLICATION/JSON", b"application/problem+json", b"text/plain",
    b"*/*",
    b"application/x-www-form-urlencoded", b"multipart/form-data; boundary=x", b"application/json;", b"",
    b"\xff",
)  # fmt: skip
ODD_HOSTS = (
    b"",
    b"evil.example",
    b"localhost",
    b"127.0.0.1:1",
    b"[::1]:8000",
    b"a" * 300,
    b"a b",
    b"x\xff",
    b"@",
    b":",
)
RAW = (
    b"GET / HTTP/9.9\r\n\r\n", b"\x00\x01\x02\x03\r\n\r\n", b"GET\r\n\r\n", b"\r\n\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n", b"GET /items HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n{}",
    b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    b"POST /events HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
    b"POST /events HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
    b"POST /events HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    b"POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{}",
    b"GET /%ff%fe HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n folded: y\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n",
    b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n", b"CONNECT evil.example:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http://evil.example/items HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 500 + b"\r\n", b"GET / HTTP/1.1\nHost: x\n\n",
)  # fmt: skip
