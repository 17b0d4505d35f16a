"""The dashboard, held to the rules of grafana/dashboard-linter and some of our own."""

from __future__ import annotations

import importlib.util
import itertools
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.grafana.conftest import FROM_PROMETHEUS, GRAFANA, KNOWN, METRICS, OF_THE_PROCESS, ROOT, SELECTOR, names_in

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import ModuleType

TEXT = (GRAFANA / "dashboards" / "oss-tail.json").read_text()
BOARD: dict[str, Any] = json.loads(TEXT)
ROWS = [panel for panel in BOARD["panels"] if panel["type"] == "row"]
PANELS = {panel["title"]: panel for panel in BOARD["panels"] if panel["type"] != "row"}
VARIABLES = {one["name"]: one for one in BOARD["templating"]["list"]}

UNITS = {"s", "bytes", "Bps", "cps", "reqps", "percentunit", "none"}
INSTANCE = 'job=~"$job",instance=~"$instance"'


def source() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dashboard", GRAFANA / "dashboard.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=PANELS, name="panel")
def _panel(request: pytest.FixtureRequest) -> dict[str, Any]:
    return PANELS[request.param]


def expressions(panel: dict[str, Any]) -> list[str]:
    return [target["expr"] for target in panel["targets"]]


# --- the whole


def test_the_json_is_what_the_source_writes() -> None:
    assert source().text() == TEXT, "make grafana"


def test_it_is_the_same_dashboard_wherever_it_is_imported() -> None:
    assert BOARD["id"] is None
    assert BOARD["uid"] == "oss-tail"
    assert BOARD["editable"] is False
    assert BOARD["title"]
    assert BOARD["description"].endswith("?")
    assert BOARD["tags"] == ["oss-tail"]


def test_what_is_looked_at_is_chosen_by_variables() -> None:
    assert list(VARIABLES) == ["datasource", "job", "instance", "group"]
    assert (VARIABLES["datasource"]["type"], VARIABLES["datasource"]["query"]) == ("datasource", "prometheus")
    for name in ("job", "instance", "group"):
        one = VARIABLES[name]
        assert one["datasource"]["uid"] == "${datasource}"
        assert one["refresh"] == 2, "asked again when the time shown changes"
        assert one["multi"]
        assert one["includeAll"]
        assert "allValue" not in one, "All is all of ours, not all that Prometheus knows"
        query = re.fullmatch(rf"label_values\((\w+)(?:\{{(.*)\}})?, {name}\)", one["query"]["query"])
        assert query is not None
        assert query[1] in METRICS
        assert re.findall(r"\$(\w+)", query[2] or "") == list(VARIABLES)[1 : list(VARIABLES).index(name)]


def test_ids_titles_and_places_are_each_taken_once() -> None:
    everything = BOARD["panels"]
    assert [panel["id"] for panel in everything] == list(range(1, len(everything) + 1))
    assert len({panel["title"] for panel in everything}) == len(everything)
    taken = set()
    for panel in everything:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = set(
            itertools.product(range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"]))
        )
        assert not cells & taken, panel["title"]
        taken |= cells


def test_the_verdict_comes_first() -> None:
    assert ROWS[0]["title"] == "Is all well?"
    first = [panel for panel in BOARD["panels"] if 0 < panel["gridPos"]["y"] < ROWS[1]["gridPos"]["y"]]
    assert {panel["type"] for panel in first} == {"stat"}
    assert sum(panel["gridPos"]["w"] for panel in first) % 24 == 0


# --- each panel


def test_a_panel_says_what_it_shows_and_in_what_unit(panel: dict[str, Any]) -> None:
    assert len(panel["description"]) > 20
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"][0] == {"color": "green", "value": None}


def test_a_panel_asks_the_chosen_data_source(panel: dict[str, Any]) -> None:
    assert panel["targets"]
    for one in (panel, *panel["targets"]):
        assert one["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    ids = [target["refId"] for target in panel["targets"]]
    assert ids == sorted(set(ids))


def test_a_panel_reads_metrics_that_exist(panel: dict[str, Any]) -> None:
    for expression in expressions(panel):
        assert names_in(expression)
        assert names_in(expression) <= KNOWN.keys()


def test_a_panel_reads_the_chosen_instances_and_groups_alone(panel: dict[str, Any]) -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    for expression in expressions(panel):
        selected = SELECTOR.findall(expression)
        assert {re.sub(r"_(bucket|sum|count)$", "", name) for name, _ in selected} == names_in(expression)
        for name, matchers in selected:
            assert matchers.startswith(INSTANCE), expression
            base = re.sub(r"_(bucket|sum|count)$", "", name)
            labels = re.search(rf"^\| `{base}` \| \w+ \|([^|]*)\|", page.partition("oss-tailer run`\n")[2], re.M)
            has_group = labels is not None and "`group`" in labels[1]
            assert ('group=~"$group"' in matchers) == has_group, expression


def test_a_panel_counts_only_what_is_a_counter(panel: dict[str, Any]) -> None:
    """And never shows a counter as it is, since it begins at 0 with each start."""
    for expression in expressions(panel):
        counted = re.findall(r"\b(?:rate|increase)\((\w+)\{[^}]*\}\[([^\]]+)\]\)", expression)
        assert {span for _, span in counted} <= {"$__rate_interval", "$__range"}
        assert expression.count("[") == len(counted)
        for name, span in counted:
            base = re.sub(r"_(bucket|sum|count)$", "", name)
            assert KNOWN[base] in ("counter", "histogram")
            assert span == "$__rate_interval" or panel["type"] == "stat"
        plain = names_in(expression) - {re.sub(r"_(bucket|sum|count)$", "", name) for name, _ in counted}
        assert {KNOWN[name] for name in plain} <= {"gauge"}


def test_lines_have_names(panel: dict[str, Any]) -> None:
    """Each label that is left after adding up is in the legend, and no other one."""
    for target in panel["targets"] if panel["type"] == "timeseries" else ():
        assert target["legendFormat"]
        outer = re.match(r"(?:histogram_quantile\([\d.]+, )?(?:sum|max|min) by \(([^)]*)\)", target["expr"])
        if outer:
            labels = set(outer[1].split(", ")) - {"le"}
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) == labels


def test_a_unit_fits_what_is_measured(panel: dict[str, Any]) -> None:
    unit = panel["fieldConfig"]["defaults"]["unit"]
    for expression in expressions(panel):
        if "_seconds_bucket" in expression or re.search(r"_(age|interval|lag|oldest)?_?seconds\{", expression):
            assert unit == "s", expression
        elif " / " in expression or "_ratio{" in expression:
            assert unit == "percentunit", expression
        elif "_bytes_total{" in expression:
            assert unit == "Bps", expression
        elif "_bytes{" in expression:
            assert unit == "bytes", expression
        elif "_requests_total{" in expression:
            assert unit == "reqps", expression


def test_prometheus_understands_every_expression(
    promtool: Callable[[Sequence[str], Path], subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    rules = [
        {"record": f"panel:{index}", "expr": expression.replace("$__rate_interval", "1m").replace("$__range", "1h")}
        for index, expression in enumerate(itertools.chain.from_iterable(map(expressions, PANELS.values())))
    ]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = promtool(["check", "rules", "rules.yaml"], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_that_is_counted_is_shown_nowhere() -> None:
    shown = set().union(*(names_in(expression) for panel in PANELS.values() for expression in expressions(panel)))
    chosen = {re.split(r"[({]", one["query"]["query"])[1].split(",")[0] for one in BOARD["templating"]["list"][1:]}
    assert (shown | chosen) - FROM_PROMETHEUS.keys() - OF_THE_PROCESS.keys() == METRICS.keys()


# --- provisioning


def test_grafana_finds_prometheus_and_the_dashboard() -> None:
    (data,) = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "prometheus.yaml").read_text())["datasources"]
    assert (data["type"], data["url"], data["editable"]) == ("prometheus", "$PROMETHEUS_URL", False)
    (boards,) = yaml.safe_load((GRAFANA / "provisioning" / "dashboards" / "oss-tail.yaml").read_text())["providers"]
    assert (boards["type"], boards["options"]["path"]) == ("file", "/var/lib/grafana/dashboards")
    assert boards["allowUiUpdates"] is False, "what is provisioned is edited in its source"
    for name in ("/var/lib/grafana/dashboards", "PROMETHEUS_URL"):
        assert name in (GRAFANA / "README.md").read_text()
