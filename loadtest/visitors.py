"""Reads a service's users and items once, before the load begins."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TIMEOUT = 30.0
"""Seconds for one answer; after them the service counts as missing."""


class ServiceMissingError(Exception):
    """No service answers, or it has no users or items; the message says what to do next."""


@dataclass(frozen=True)
class Visitors:
    """Users with stored histories, and items that a new user may take.

    Attributes:
        user_ids: ids of known users, at least one.
        item_ids: ids of items, at least one.
        refused: reason why the service cannot serve a strategy, by strategy.
    """

    user_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    refused: Mapping[str, str]


def read_visitors(host: str, users: int, headers: Mapping[str, str]) -> Visitors:
    """Asks the service for its users and items, and whether it can serve ``s2``.

    ``s2`` needs an enhanced backbone, which not every bundle has; no LVLM is asked here.

    Raises:
        ServiceMissingError: no server answers at ``host``, or it is not MSR Serve.
    """
    service = _Service(host, headers)
    page = service.get(f"/users?limit={min(100, users)}")
    user_ids = [user["user_id"] for user in page["users"]]
    # A page holds 100 users at most; ``next`` is the id after which the next page begins.
    while page["next"] and len(user_ids) < users:
        page = service.get(f"/users?limit=100&after={urllib.parse.quote(page['next'], safe='')}")
        user_ids += [user["user_id"] for user in page["users"]]
    item_ids = [item["item_id"] for item in service.get("/items?limit=100")["items"]]
    if not user_ids or not item_ids:
        raise ServiceMissingError(f"the service at {host} has no users or no items: give it another bundle")
    # One request, of which only a refusal matters.
    refusal = service.refusal("s2", item_ids[0])
    return Visitors(tuple(user_ids[:users]), tuple(item_ids), {"s2": refusal} if refusal else {})


class _Service:
    def __init__(self, host: str, headers: Mapping[str, str]) -> None:
        self._host = host
        self._headers = dict(headers)

    def get(self, path: str) -> dict[str, Any]:
        return self._send(urllib.request.Request(self._host + path, headers=self._headers))  # noqa: S310 - http(s) only

    def refusal(self, strategy: str, item_id: str) -> str | None:
        """Asks with a strategy; returns why the service does not serve it, or None."""
        body = json.dumps({"history": [item_id], "k": 1}).encode()
        headers = {**self._headers, "content-type": "application/json"}
        try:
            self._send(urllib.request.Request(f"{self._host}/recommend?strategy={strategy}", body, headers))  # noqa: S310
        except _RefusedError as error:
            return str(error)
        return None

    def _send(self, request: urllib.request.Request) -> dict[str, Any]:
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as response:  # noqa: S310
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                detail = error.read(2000).decode(errors="replace")
            if error.code == 422:
                raise _RefusedError(_detail(detail)) from None
            raise ServiceMissingError(f"{request.full_url} answers {error.code}: {_detail(detail)}") from None
        except OSError as error:
            raise ServiceMissingError(
                f"no service answers at {self._host} ({getattr(error, 'reason', error)}): "
                "start one with `make run`, or give its --host"
            ) from None
        except ValueError:
            raise ServiceMissingError(
                f"{request.full_url} does not answer with JSON: is this MSR Serve?"
            ) from None
        if not isinstance(answer, dict):
            raise ServiceMissingError(
                f"{request.full_url} does not answer with an object: is this MSR Serve?"
            )
        return answer


class _RefusedError(Exception):
    """The service understood the request and refuses it (422)."""


def _detail(text: str) -> str:
    try:
        return str(json.loads(text)["detail"])
    except (ValueError, KeyError, TypeError):
        return text[:200]
