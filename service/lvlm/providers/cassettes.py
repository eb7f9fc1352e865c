"""Records attempts at providers and plays them again: without cost, with the same events at the same pace.

A cassette is a folder with a file per provider and process. A file has a line with the format's version, then
a line of JSON per attempt: the hash of its request, and the events of its answer, each with its offset in
seconds. Keys, headers and prompts are never written, since of a request only the hash is.
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
"""Version of the file format; a file of another version cannot be read."""

_HEADER = {"cassette": VERSION}


class CassetteWriter:
    """Appends attempts to a new file of this process.

    Args:
        folder: folder of the cassette; made if it does not exist.

    Raises:
        ConfigurationError: the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        name = f"{time.time_ns()}-{os.getpid()}.jsonl"  # names sort in the order of recording
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = (folder / name).open("a", encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(f"MSR_CASSETTE: {folder} cannot be written: {error.strerror}") from None
        self._failed = False
        self._write(_HEADER)

    def append(self, request: str, events: Sequence[Mapping[str, Any]]) -> None:
        """Writes one attempt; an error of the disk is logged once, and answers go on unrecorded."""
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
    """Wraps a provider and records every attempt at it."""

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
            # The caller closed the iterator: when played, the answer stops here and waits for the same.
            if not ended:
                keep("cut", {})
            self._writer.append(request_hash(self.name, call), events)

    async def close(self) -> None:
        """See Provider."""
        await self._provider.close()
        self._writer.close()


class Cassette:
    """Holds the recorded attempts of a folder by the hash of their request."""

    def __init__(self, attempts: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]]) -> None:
        self._attempts = {request: cycle(recorded) for request, recorded in attempts.items()}

    @classmethod
    def read(cls, folder: Path) -> Cassette:
        """Reads all files of a folder.

        Raises:
            ConfigurationError: the folder has no files, or one is damaged or of another version.
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
        """Returns the events of a request's next attempt, in the order of recording.

        After the last attempt comes the first one again. None for a request that was never recorded.
        """
        recorded = self._attempts.get(request)
        return None if recorded is None else next(recorded)


class Player:
    """A provider that plays recorded attempts.

    Args:
        name: configured name of the provider that was recorded.
        cassette: recorded attempts; several players may share them.
        speed: pace relative to the recorded one, above 0; 2.0 plays twice as fast.
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
            if (
                "cut" in record
            ):  # waits for ever, until the caller closes the iterator as the recorded one did
                await asyncio.Event().wait()
            if "failure" in record:
                failed = record["failure"]
                raise ProviderError(FailureKind(failed["kind"]), failed["message"], failed["retry_after"])
            yield _event(record)

    async def close(self) -> None:
        """See Provider."""


def request_hash(provider: str, call: Call) -> str:
    """Returns the SHA-256 of what a provider is sent, without the context, which is no part of a prompt."""
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


# Class of an event -> its name in a cassette.
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
    """The attempts of a file; a last line that was cut off, as by a crash, is left out."""
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
