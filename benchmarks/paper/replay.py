"""Command ``replay``: sends the requests of the leave-one-out test to a service, and records its answers."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.errors import BenchmarkError
from benchmarks.lab.cases import Case, Cohort, vectors_of_users
from benchmarks.lab.cells import counted
from benchmarks.lab.options import (
    add_service_arguments,
    add_strategy_arguments,
    bundle_of,
    lvlm_options,
    positive,
    strategies,
)
from benchmarks.lab.service_client import Reply, ServiceClient, backbone_of
from benchmarks.paper.candidates import add_candidates_arguments, users_and_candidates
from benchmarks.paper.records import RecordFile
from models import machine
from models.contracts import BackboneManifest
from models.evaluation import CandidateSource, CohortChoice, cohort_in_words
from models.evaluation.cohort import UNIFORM
from service.candidates.registry import open_counting
from service.catalogue.bundle import Bundle

FATAL_STATUSES = (401, 403, 404, 503)
"""Statuses that end the run, since every user would get them: no key, no such path, no service."""

RECORDED_OF_ITEM = ("item_id", "score", "base_rank", "source")
"""Fields of each answered item that are recorded."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    add_service_arguments(parser)
    add_strategy_arguments(parser, default="none")
    add_candidates_arguments(parser)
    parser.add_argument(
        "--out", type=Path, required=True, help="file of records; an existing one is continued"
    )
    parser.add_argument(
        "--concurrency", type=positive, default=4, help="requests under way at once (default 4)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Sends all requests and records the answers; returns the exit code, 1 when a request failed.

    Raises:
        BenchmarkError: the bundle, the service or the file of records is not usable, or the service refuses
            every request.
    """
    bundle = bundle_of(arguments)
    choice, source = users_and_candidates(arguments, bundle.catalogue)
    cases = Cohort(bundle.catalogue, None, arguments.seed, source, choice)
    if choice.name != UNIFORM and (chosen := choice.to_json()) is not None:
        tqdm.write(cohort_in_words(chosen))
    if cases.left_out:
        tqdm.write(f"left out: {counted(cases.left_out, 'user')} without {source.missing}")
    with RecordFile(arguments.out, _header(arguments, bundle, choice, source, cases)) as records:
        asyncio.run(_replay(arguments, bundle, cases, records))
    if records.failures:  # of this run and of the ones that it continues
        failed = counted(records.failures, "request")
        tqdm.write(f"{failed} failed: they are in {arguments.out} and count as misses")
    answers = counted(len(records.finished), "answer")
    tqdm.write(f"{answers} in {arguments.out}; `python -m benchmarks score {arguments.out}`")
    return int(records.failures > 0)


def record_of(case: Case, strategy: str, reply: Reply) -> dict[str, Any]:
    """Makes the record of one answer, with all fields that a table may need; nothing is scored here."""
    # The body of an error is a problem document without items.
    body = reply.body if reply.error is None else {}
    return {
        "user": case.user,
        "user_id": case.user_id,
        "strategy": strategy,
        "target": case.target,
        "candidates": list(case.candidates),
        "status": reply.status,
        "error": reply.error,
        "attempts": reply.attempts,
        "client_seconds": reply.seconds,
        "items": [{key: item.get(key) for key in RECORDED_OF_ITEM} for item in body.get("items", [])],
        **{
            key: body.get(key)
            for key in (
                "request_id",
                "served",
                "outcome",
                "backbone",
                "explanation",
                "lvlm",
                "warnings",
                "timings_ms",
            )
        },
    }


async def _replay(arguments: argparse.Namespace, bundle: Bundle, cases: Cohort, records: RecordFile) -> None:
    wanted = strategies(arguments)
    # A generator that all workers share: candidates are drawn when needed, and no user is asked twice.
    todo = ((case, name) for case in cases for name in wanted if (case.user, name) not in records.finished)
    replay = _Replay(arguments, bundle, records)
    total = len(cases) * len(wanted)
    done = sum(name in wanted for _, name in records.finished)
    with tqdm(total=total, initial=done, unit="answer", disable=None) as bar:
        async with ServiceClient(arguments.url, arguments.concurrency) as client:
            await replay.check(client, next(iter(cases)), wanted)
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(arguments.concurrency):
                        group.create_task(replay.work(client, todo, bar))
            except ExceptionGroup as errors:
                # The other exceptions are the same failure, or cancellations that it caused.
                raise errors.exceptions[0] from errors


class _Replay:
    """Sends requests and records the answers; all workers of one run share it."""

    def __init__(self, arguments: argparse.Namespace, bundle: Bundle, records: RecordFile) -> None:
        self._options = lvlm_options(arguments)
        self._deadline_ms = arguments.deadline_ms
        self._versions = {name: b.manifest.version for name, b in bundle.backbones.items()}
        self._with_vectors = vectors_of_users(bundle)
        # By strategy: whether the backbone that answers it has vectors of users.
        self._asks_user: dict[str, bool] = {}
        for name, model in open_counting(bundle.catalogue).items():  # every service has Pop and Random too
            self._versions[name] = model.manifest.version
        self._records = records
        self._answered = {strategy for _, strategy in records.finished}

    async def check(self, client: ServiceClient, case: Case, wanted: Sequence[str]) -> None:
        """Asks the service what the run will ask, before anything is recorded or paid.

        Raises:
            BenchmarkError: the service refuses the options or a strategy, or serves another bundle.
        """
        replies = await client.check_serves(self._payload(case, with_user=False), self._options, wanted)
        for strategy, reply in replies.items():
            self._check(strategy, reply)
            name = self._options.get("backbone") or backbone_of(reply)
            self._asks_user[strategy] = name in self._with_vectors

    async def work(self, client: ServiceClient, todo: Iterator[tuple[Case, str]], bar: tqdm[Any]) -> None:
        """Sends requests until none is left; several workers share the iterator."""
        for case, strategy in todo:
            with_user = self._asks_user[strategy]
            payload = self._payload(case, with_user=with_user)
            reply = await client.recommend(payload, {"strategy": strategy, **self._options})
            self._check(strategy, reply)
            self._check_user(strategy, reply, with_user)
            if reply.error is None:
                self._answered.add(strategy)
            self._records.append(record_of(case, strategy, reply))
            bar.update()

    def _payload(self, case: Case, *, with_user: bool) -> dict[str, Any]:
        """Makes the body, always with a history, and with the user for a backbone that has users' vectors."""
        payload: dict[str, Any] = {
            **case.whose(with_user=with_user),
            "candidates": list(case.candidates),
            # All candidates come back ranked, so that any cut-off can be scored later.
            "k": len(case.candidates),
        }
        if self._deadline_ms is not None:
            payload["deadline_ms"] = self._deadline_ms
        return payload

    def _check(self, strategy: str, reply: Reply) -> None:
        """Raises an error for a reply that makes the whole run useless; any other reply is a result.

        Raises:
            BenchmarkError: the service refuses requests or the strategy, or serves another bundle.
        """
        # With a wrong key, for one, every user would be recorded as a miss.
        if reply.status in FATAL_STATUSES:
            raise BenchmarkError(
                f"the service turns every request away ({reply.error}): mend that and repeat the command, "
                "the answers so far are kept"
            )
        # 429 does not refuse the strategy: the service was busy at every attempt.
        refused = reply.status is not None and 400 <= reply.status < 500 and reply.status != 429
        if refused and strategy not in self._answered:
            raise BenchmarkError(
                f"the service refuses {strategy} ({reply.error}): nothing was recorded for it"
            )
        if reply.error is not None:
            return
        backbone: Mapping[str, Any] = reply.body.get("backbone") or {}
        name, version = backbone_of(reply), backbone.get("version")
        # Another bundle may lack the target, and its manifest has other metrics.
        if name is None or self._versions.get(str(name)) != version:
            raise BenchmarkError(
                f"the service answers from backbone {name} {version}, which is not in this bundle: "
                "give the --bundle that the service runs on"
            )

    def _check_user(self, strategy: str, reply: Reply, with_user: bool) -> None:
        """Raises an error if the answer is of another kind of backbone than the check before the run met.

        Raises:
            BenchmarkError: a backbone with vectors of users was asked without the user, or the other way
                round.
        """
        name = backbone_of(reply)
        if reply.error is None and (name in self._with_vectors) != with_user:
            how = (
                "with a user, whom it does not read"
                if with_user
                else "without the user whom it has a vector of"
            )
            raise BenchmarkError(
                f"{strategy} is answered from backbone {name}, which was asked {how}: the service's default "
                f"cannot be told before the run; repeat the command with --backbone {name}"
            )


def _header(
    arguments: argparse.Namespace,
    bundle: Bundle,
    choice: CohortChoice,
    source: CandidateSource,
    cases: Cohort,
) -> dict[str, Any]:
    """Makes the header of a run, which is complete with ``cohort`` records per strategy.

    Only ``options`` must stay the same when a run is continued.
    """
    manifests = {name: backbone.manifest for name, backbone in bundle.backbones.items()}
    return {
        "options": {
            **_whom(choice, arguments.seed),
            "protocol": source.to_json(),
            "catalogue": bundle.catalogue.version,
            "backbones": {name: manifest.version for name, manifest in manifests.items()},
            "deadline_ms": arguments.deadline_ms,
            **lvlm_options(arguments),
        },
        "cohort": len(cases),
        "left_out": {"users": cases.left_out, "missing": source.missing},
        "dataset": bundle.catalogue.manifest.dataset,
        "backbones": {name: _trained(manifest) for name, manifest in manifests.items()},
        "url": arguments.url,
        "concurrency": arguments.concurrency,
        "machine": machine.facts(),
    }


def _trained(manifest: BackboneManifest) -> dict[str, Any]:
    return {"family": manifest.family, "version": manifest.version, "metrics": manifest.metrics}


def _whom(choice: CohortChoice, seed: int) -> dict[str, Any]:
    """Returns the options that choose users; for a uniform choice they are those of older files."""
    chosen = choice.to_json()
    if choice.name == UNIFORM:
        return {"users": None if chosen is None else chosen["users"], "seed": seed}
    return {"cohort": chosen}
