"""Tests that dashboards and alerts name only metrics that exist."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from service.exposition.families import collect
from service.exposition.process_metrics import process_families
from service.metrics import Metrics, ParentMetrics

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "msr-serve.json"
ALERTS = DEPLOY / "prometheus" / "alerts.yml"
OF_PROMETHEUS = {"le", "job", "instance"}
NOT_SHOWN = {"process_virtual_memory_bytes", "process_start_time_seconds"}  # no graph of them says anything


def expressions() -> Iterator[str]:
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        yield from (rule["expr"] for rule in group["rules"])


def exported() -> dict[str, set[str]]:
    """Every sample name that the service can export, with its labels."""
    suffixes = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",), "gauge": ("",)}
    families = [
        *collect(Metrics().registry),
        *collect(ParentMetrics().registry),
        *process_families({"0": os.getpid()}),
    ]
    return {
        f"{family.definition.name}{suffix}": set(family.definition.labels)
        for family in families
        for suffix in suffixes[family.definition.kind]
    }


def metrics_in(expression: str) -> list[str]:
    return re.findall(r"\b(?:msr|process)_\w+", expression)


def selectors_in(expression: str) -> list[tuple[str, set[str]]]:
    """Each metric with the labels that its own braces match."""
    found = re.findall(r"\b((?:msr|process)_\w+)(?:\{([^}]*)\})?", expression)
    return [(name, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", braces))) for name, braces in found]


def groups_in(expression: str) -> set[str]:
    lists = re.findall(r"\bby\s*\(([^)]*)\)", expression)
    return {label.strip() for names in lists for label in names.split(",")}


@pytest.mark.parametrize("expression", list(expressions()))
def test_every_metric_and_label_of_an_expression_is_exported_by_the_service(expression: str) -> None:
    names = exported()
    selectors = selectors_in(expression)
    assert selectors or "up{" in expression
    for name, matched in selectors:
        assert name in names
        assert matched - OF_PROMETHEUS <= names[name]
        assert groups_in(expression) - OF_PROMETHEUS <= names[name]


def test_every_metric_of_the_service_is_on_the_dashboard() -> None:
    families = {re.sub(r"_(bucket|sum|count|total)$", "", name) for name in exported()} - NOT_SHOWN
    panels = json.loads(DASHBOARD.read_text())["panels"]
    shown = {name for p in panels for t in p["targets"] for name in metrics_in(t["expr"])}
    assert families == {re.sub(r"_(bucket|sum|count|total)$", "", name) for name in shown}


def test_panels_have_their_own_place_and_id() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_the_dashboard_reads_the_data_source_that_is_provisioned() -> None:
    provisioned = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())
    uids = {panel["datasource"]["uid"] for panel in json.loads(DASHBOARD.read_text())["panels"]}
    assert uids == {source["uid"] for source in provisioned["datasources"]}


def test_every_alert_says_what_it_means() -> None:
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        for rule in group["rules"]:
            assert rule["annotations"]["summary"].endswith(".")
            assert rule["labels"]["severity"] in ("page", "warn")
