"""Defines the users of a load test for Locust: ``python -m loadtest --host http://127.0.0.1:8000``.

Requests are named by strategy (``/recommend [s3]``), so that Locust's table and CSV have a row of latencies
for each. At the end the outcomes of every strategy are logged; the exit code is 1 when any request failed and
2 when there was nothing to load.
"""

from __future__ import annotations

import itertools
import logging
import os
import random
import uuid
from collections import Counter
from typing import Any
from urllib.parse import quote

from locust import HttpUser, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

from loadtest.check import outcome_of, problem_with
from loadtest.scenario import SCENARIOS, Scenario, ScenarioError, read_scenario
from loadtest.visitors import ServiceMissingError, Visitors, read_visitors
from models.contracts.service_urls import service_url

KNOWN_USERS = 200
"""Number of stored users that are read from the service at most; visitors use them in turns."""
HISTORY = 10
"""Number of items, the newest ones, in the history of a request."""
NEW_USER_ITEMS = 3
"""Number of items that a new user takes before the first request."""
TAKES = 0.2
"""Share of answers after which a new user takes an item; stored users are left as they are."""

KEY = os.environ.get("MSR_API_KEY", "")
HEADERS = {"X-API-Key": KEY} if KEY else {}


log = logging.getLogger("loadtest")


class SharedState:
    """State that all visitors of one run share; it is filled when the run starts.

    Attributes:
        scenario: behaviour of the visitors.
        visitors: users and items of the service.
        turns: ids of stored users, again and again.
        outcomes: number of answers by strategy and outcome.
    """

    scenario: Scenario
    visitors: Visitors
    turns: itertools.cycle[str]
    outcomes: Counter[tuple[str, str]]


class Visitor(HttpUser):
    """A simulated user, who asks for recommendations by user id or with a history, and checks each answer."""

    host = "http://127.0.0.1:8000"

    def on_start(self) -> None:
        """Becomes a stored user, or a new one whose first events are sent now."""
        self.client.headers.update(HEADERS)
        self.is_new = random.random() < SharedState.scenario.new
        if self.is_new:
            self.user_id = f"load-{uuid.uuid4()}"
            self.history: list[str] = []
            self.take(
                random.sample(
                    SharedState.visitors.item_ids, min(NEW_USER_ITEMS, len(SharedState.visitors.item_ids))
                )
            )
        else:
            self.user_id = next(SharedState.turns)
            self.history = self.stored_history()

    def wait_time(self) -> float:
        """Draws the seconds until this user's next request."""
        return random.uniform(*SharedState.scenario.wait)

    @task
    def recommend(self) -> None:
        """Asks with one strategy and checks the answer."""
        scenario = SharedState.scenario
        (strategy,) = random.choices([*scenario.weights], [*scenario.weights.values()])
        body: dict[str, Any] = {"k": scenario.k}
        in_session = bool(self.history) and random.random() < scenario.session
        body |= {"history": self.history[-HISTORY:]} if in_session else {"user_id": self.user_id}
        # The stored history does not count for a request with a history of its own.
        left_out = body["history"] if in_session else self.history
        path, name = f"/recommend?strategy={strategy}", f"/recommend [{strategy}]"
        with self.client.post(path, json=body, name=name, catch_response=True) as response:
            answer = _json(response)
            problem = f"status {response.status_code}" if response.status_code != 200 else None
            problem = problem or problem_with(answer, strategy, scenario.k, left_out)
            if problem:
                response.failure(problem)
            else:
                response.success()
        SharedState.outcomes[strategy, "failed" if problem else outcome_of(answer)] += 1
        # Only new users take items: visitors that share a stored user would not know what another one took.
        if self.is_new and not problem and random.random() < TAKES:
            self.take([random.choice(answer["items"])["item_id"]])

    def take(self, item_ids: list[str]) -> None:
        """Sends events; from now on these items must not be recommended to this user."""
        batch = [
            # One time for all: events of one second keep the order in which they are sent.
            {"user_id": self.user_id, "item_id": item_id, "timestamp": 1_700_000_000}
            for item_id in item_ids
        ]
        with self.client.post(
            "/events", json={"events": batch}, name="/events", catch_response=True
        ) as response:
            answer = _json(response)
            if response.status_code == 200 and _kept(answer) == len(batch):
                self.history += item_ids
                response.success()
            else:
                detail = answer.get("detail") if isinstance(answer, dict) else None
                response.failure(f"status {response.status_code}: {detail}")

    def stored_history(self) -> list[str]:
        """Reads the item ids of this user's stored history, oldest first."""
        path = f"/users/{quote(self.user_id, safe='')}/history"
        with self.client.get(path, name="/users/{id}/history", catch_response=True) as response:
            answer = _json(response)
            items = answer.get("items") if isinstance(answer, dict) else None
            if response.status_code == 200 and isinstance(items, list):
                response.success()
                return [item["item_id"] for item in items]
            response.failure(f"status {response.status_code}")
        return []


def add_arguments(parser: LocustArgumentParser) -> None:
    """Declares the option that chooses a scenario."""
    parser.add_argument(
        "--scenario", default="mixed", env_var="MSR_LOAD_SCENARIO", help="section of scenarios.toml"
    )


def prepare(environment: Environment, **_: Any) -> None:
    """Reads the scenario and the service's users, or ends the run with one sentence and exit code 2."""
    options = environment.parsed_options
    try:
        scenario = read_scenario(SCENARIOS, options.scenario if options else "mixed")
        # Every visitor sends to this host, which Locust has read already.
        environment.host = Visitor.host = service_url(environment.host or Visitor.host)
        visitors = read_visitors(environment.host, KNOWN_USERS, HEADERS)
        SharedState.scenario = scenario.without(visitors.refused)
    except (ScenarioError, ServiceMissingError, ValueError) as error:
        log.error(error)
        logging.shutdown()
        os._exit(2)  # Locust catches SystemExit here and would start its users all the same
    for strategy, reason in visitors.refused.items():
        if strategy in scenario.weights:
            log.warning("%s is left out: %s", strategy, reason)
    SharedState.visitors = visitors
    # Every stored user comes before any comes again.
    SharedState.turns = itertools.cycle(visitors.user_ids)
    SharedState.outcomes = Counter()


def report(environment: Environment, **_: Any) -> None:
    """Logs the number of answers by strategy and outcome; sets the exit code 2 if there were none."""
    outcomes = getattr(SharedState, "outcomes", None)
    if not outcomes:
        log.error("no recommendation was answered: run longer or with more users")
        environment.process_exit_code = 2
        return
    for strategy in sorted({strategy for strategy, _ in outcomes}):
        found = {outcome: count for (name, outcome), count in sorted(outcomes.items()) if name == strategy}
        log.info(
            "outcomes of %s: %s", strategy, ", ".join(f"{name} {count}" for name, count in found.items())
        )


def _json(response: Any) -> Any:
    try:
        return response.json()
    except ValueError:
        return None


def _kept(answer: Any) -> int | None:
    """Returns how many events of a batch are stored; one that was taken before is there already."""
    return answer.get("stored", 0) + answer.get("repeated", 0) if isinstance(answer, dict) else None


events.init_command_line_parser.add_listener(add_arguments)  # type: ignore[no-untyped-call]
events.test_start.add_listener(prepare)  # type: ignore[no-untyped-call]
events.quitting.add_listener(report)  # type: ignore[no-untyped-call]
