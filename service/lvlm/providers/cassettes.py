"""Calls recorded once and played again: free, byte for byte, at their real pace.

A cassette is a folder with a file per provider and process: a line with the version, then a line per attempt
with the hash of its request and the events of its answer, each with its offset in seconds. Keys, headers and
prompts are not in it, since nothing but the hash of a request is ever written.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict
from itertools import cycle
from pathlib import Path
from typing import Any

from service.errors import ConfigurationError
from service.lvlm.providers.base import (
    Alive,
    Call,
    Event,
    FailureKind,
    Finish,
    FinishReason,
    Provider,
    ProviderError,
    Source,
    Text,
    TextDelta,
    Usage,
)

log = logging.getLogger(__name__)

VERSION = 1
_HEADER = {"cassette": VERSION}


class CassetteWriter:
    """Appends attempts to a file of this process's own.

    Args:
        folder: folder of the cassette; made if it is not there.

    Raises:
        ConfigurationError: the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        name = f"{time.time_ns()}-{os.getpid()}.jsonl"  # in the order of recording
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = (folder / name).open("a", encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(f"MSR_CASSETTE: {folder} cannot be written: {error.strerror}") from None
        self._failed = False
        self._write(_HEADER)

    def append(self, request: str, events: Sequence[Mapping[str, Any]]) -> None:
        """Keeps one attempt; a disk that is full costs the recording and not the answer."""
        self._write({"request": request, "events": list(events)})

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _write(self, record: Mapping[str, Any]) -> None:
        try:
            self._file.write(json.dumps(record, separators=(",", ":")) + "\n")
            self._file.flush()
        except OSError as error:
            if not self._failed:
                log.warning("calls are no longer recorded: %s", error.strerror)
            self._failed = True


class Recorder:
    """Stands for a provider and keeps its answers as they pass."""

    def __init__(self, provider: Provider, writer: CassetteWriter) -> None:
        self._provider = provider
        self._writer = writer

    @property
    def name(self) -> str:
        """See Provider."""
        return self._provider.name

    async def stream(self, call: Call) -> AsyncIterator[Event]:
        """See Provider."""
        began, events = time.perf_counter(), list[dict[str, Any]]()

        def keep(kind: str, content: Mapping[str, Any]) -> None:
            events.append({"at": round(time.perf_counter() - began, 6), kind: content})

        ended = False
        try:
            async with aclosing(self._provider.stream(call)) as arriving:  # type: ignore[type-var]
                async for event in arriving:
                    keep(_KINDS[type(event)], asdict(event))
                    yield event
            ended = True
        except ProviderError as error:
            ended = True
            keep("failure", {"kind": error.kind, "message": str(error), "retry_after": error.retry_after})
            raise
        finally:
            if not ended:  # the caller left: so it will when this is played again
                keep("cut", {})
            self._writer.append(request_hash(self.name, call), events)

    async def close(self) -> None:
        """See Provider."""
        await self._provider.close()
        self._writer.close()


class Cassette:
    """Holds the recordings of a folder, by the hash of their request."""

    def __init__(self, attempts: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]]) -> None:
        self._attempts = {request: cycle(recorded) for request, recorded in attempts.items()}

    @classmethod
    def read(cls, folder: Path) -> Cassette:
        """Reads all files of a folder.

        Raises:
            ConfigurationError: there are none, or one is of another version.
        """
        paths = sorted(folder.glob("*.jsonl"))
        if not paths:
            raise ConfigurationError(
                f"MSR_CASSETTE: {folder} holds no cassette; record one with MSR_CASSETTE_MODE=record"
            )
        attempts: defaultdict[str, list[Sequence[Mapping[str, Any]]]] = defaultdict(list)
        for path in paths:
            for record in _records(path):
                attempts[record["request"]].append(record["events"])
        return cls(attempts)

    def next(self, request: str) -> Sequence[Mapping[str, Any]] | None:
        """Returns the events of the next attempt at a request, in recorded order.

        After the last one the first is played again; None if there are none.
        """
        recorded = self._attempts.get(request)
        return None if recorded is None else next(recorded)


class Player:
    """Stands for a provider and plays a cassette.

    Args:
        name: name of the provider that was recorded.
        cassette: recordings; several players may share them.
        speed: pace relative to the recorded one; 2.0 plays twice as fast.
    """

    def __init__(self, name: str, cassette: Cassette, speed: float = 1.0) -> None:
        self._name = name
        self._cassette = cassette
        self._speed = speed

    @property
    def name(self) -> str:
        """See Provider."""
        return self._name

    async def stream(self, call: Call) -> AsyncIterator[Event]:
        """See Provider."""
        events = self._cassette.next(request_hash(self._name, call))
        if events is None:
            raise ProviderError(
                FailureKind.REQUEST,
                f"this call to {self._name}/{call.model} is not on the cassette: record it first with "
                "MSR_CASSETTE_MODE=record",
            )
        clock = asyncio.get_running_loop().time
        began = clock()
        for record in events:
            wait = began + record["at"] / self._speed - clock()
            if wait > 0:
                await asyncio.sleep(wait)
            if "cut" in record:
                await asyncio.Event().wait()
            if "failure" in record:
                failed = record["failure"]
                raise ProviderError(FailureKind(failed["kind"]), failed["message"], failed["retry_after"])
            yield _event(record)

    async def close(self) -> None:
        """See Provider."""


def request_hash(provider: str, call: Call) -> str:
    """Returns the SHA-256 of everything that a provider is sent; the call's context is not part of it."""
    prompt = call.prompt
    facts = {
        "provider": provider,
        "model": call.model,
        "max_output_tokens": call.max_output_tokens,
        "stream": call.stream,
        "system": prompt.system,
        "schema": prompt.answer_schema,
        "parts": [
            part.text if isinstance(part, Text) else {"image": hashlib.sha256(part.data).hexdigest()}
            for part in prompt.parts
        ],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


_KINDS: Mapping[type, str] = {
    Source: "source",
    TextDelta: "text",
    Usage: "usage",
    Finish: "finish",
    Alive: "alive",
}


def _event(record: Mapping[str, Any]) -> Event:
    if "alive" in record:
        return Alive(**record["alive"])
    if "source" in record:
        return Source(**record["source"])
    if "text" in record:
        return TextDelta(**record["text"])
    if "usage" in record:
        return Usage(**record["usage"])
    finish = record["finish"]
    return Finish(FinishReason(finish["reason"]), finish["model"], finish["simulated"])


def _records(path: Path) -> Iterator[dict[str, Any]]:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        if not line.endswith("\n"):
            log.warning("%s ends in the middle of a recording, which is left out", path.name)
            return
        try:
            record = json.loads(line)
        except ValueError:
            raise ConfigurationError(f"MSR_CASSETTE: {path.name} line {number} is damaged") from None
        if number == 1:
            if record != _HEADER:
                raise ConfigurationError(
                    f"MSR_CASSETTE: {path.name} is not a cassette of version {VERSION}: record it again"
                )
            continue
        yield record
