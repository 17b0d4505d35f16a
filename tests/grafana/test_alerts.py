"""The alerts: each says what happened and what to do, each was seen to fire and not to fire, and none is left out."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.grafana.conftest import GRAFANA, KNOWN, ROOT, names_in

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Sequence
    from pathlib import Path

    Promtool = Callable[[Sequence[str], Path], subprocess.CompletedProcess[str]]

TEXT = (GRAFANA / "alerts.yaml").read_text()
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for group in yaml.safe_load(TEXT)["groups"] for rule in group["rules"]
}
CASES = yaml.safe_load((GRAFANA / "alerts_test.yaml").read_text())["tests"]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()


@pytest.fixture(params=ALERTS, name="alert")
def _alert(request: pytest.FixtureRequest) -> dict[str, Any]:
    return ALERTS[request.param]


def test_each_says_how_bad_it_is_and_what_happened(alert: dict[str, Any]) -> None:
    assert alert["labels"] == {"severity": alert["labels"]["severity"]}
    assert alert["labels"]["severity"] in ("page", "warning")
    notes = alert["annotations"]
    assert list(notes) == ["summary", "description", "runbook_url"]
    assert notes["summary"].endswith(".")
    assert "\n" not in notes["summary"]
    assert len(notes["summary"]) <= 110
    assert notes["description"].endswith(".")


def test_each_has_its_section_of_the_runbook(alert: dict[str, Any]) -> None:
    name, severity = alert["alert"], alert["labels"]["severity"]
    assert alert["annotations"]["runbook_url"] == f"docs/runbook.md#{name.lower()}"
    section = RUNBOOK.partition(f"\n## {name}\n\n")[2].partition("\n## ")[0]
    assert section.startswith(f"*{severity}: ")
    assert len(section.split("\n\n")) >= 2, "what it means, and what to do"


def test_the_runbook_speaks_of_no_other_alert() -> None:
    assert re.findall(r"^## (\w+)$", RUNBOOK, re.M) == list(ALERTS)
    assert set(re.findall(r"\]\(#(\w+)\)", RUNBOOK)) <= {name.lower() for name in ALERTS}


def test_each_reads_metrics_that_exist(alert: dict[str, Any]) -> None:
    assert names_in(alert["expr"])
    assert names_in(alert["expr"]) <= KNOWN.keys()


def test_each_counts_only_what_is_a_counter(alert: dict[str, Any]) -> None:
    for metric in re.findall(r"\b(?:rate|increase)\((\w+)", alert["expr"]):
        assert KNOWN[metric] == "counter", metric
    for metric in names_in(alert["expr"]) - set(re.findall(r"\b(?:rate|increase)\((\w+)", alert["expr"])):
        assert KNOWN[metric] == "gauge", metric


def test_each_was_seen_to_fire_and_not_to(alert: dict[str, Any]) -> None:
    asked = f'ALERTS{{alertname="{alert["alert"]}",alertstate="firing"}}'
    answers = [bool(one["exp_samples"]) for case in CASES for one in case["promql_expr_test"] if one["expr"] == asked]
    assert set(answers) == {True, False}


def test_promtool_finds_nothing_wrong(promtool: Promtool) -> None:
    for arguments in (["check", "rules", "alerts.yaml"], ["test", "rules", "alerts_test.yaml"]):
        done = promtool(arguments, GRAFANA)
        assert done.returncode == 0, done.stdout + done.stderr


def test_its_tests_can_fail(promtool: Promtool, tmp_path: Path, alert: dict[str, Any]) -> None:
    """With an alert that never fires, and with one that always does."""
    cases = [case for case in CASES if case["name"].startswith(alert["alert"])]
    for expression in ("vector(1) > 2", f"{alert['expr']} or vector(1)"):
        rules = {"groups": [{"name": "one", "rules": [alert | {"expr": expression}]}]}
        (tmp_path / "alerts.yaml").write_text(yaml.safe_dump(rules))
        tests = {"rule_files": ["alerts.yaml"], "evaluation_interval": "1m", "tests": cases}
        (tmp_path / "tests.yaml").write_text(yaml.safe_dump(tests))
        assert promtool(["test", "rules", "tests.yaml"], tmp_path).returncode == 1


def test_the_runbook_names_panels_keys_and_commands_that_exist() -> None:
    panels = [panel["title"] for panel in json.loads((GRAFANA / "dashboards" / "oss-tail.json").read_text())["panels"]]
    text = re.sub(r"^\*(?:page|warning): .*\*$", "", RUNBOOK, flags=re.M)
    for words in re.findall(r"(?<!\*)\*([A-Z][^*]+)\*", " ".join(text.split())):
        assert any(title.startswith(words) for title in panels), words
    configuration = (ROOT / "docs" / "configuration.md").read_text()
    for key in re.findall(r"`([a-z]+_[a-z_]+)`", text):
        assert f"`{key}`" in configuration, key
    manual = (ROOT / "man" / "oss-tailer.1").read_text()
    for command in re.findall(r"oss-tailer ([a-z]+) ?", " ".join(re.findall(r"`(oss-tailer [^`]+)`", text))):
        assert f"\n.Cm {command}" in manual, command
