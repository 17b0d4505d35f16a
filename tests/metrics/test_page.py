"""docs/metrics.md against the code: every family, every label and every value, of each of the pages of metrics."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tailer import errors
from tailer.metrics import Exposition, Metrics, ServiceMetrics
from tailer.metrics.canary import CanaryMetrics
from tailer.version import __version__
from tests.metrics.conftest import STATUS

PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
FREE = ("le", "version", "python", "group", "sink", "object", "currency")
"""Labels whose values are measured, configured or names of objects."""


def service() -> ServiceMetrics:
    metrics = ServiceMetrics(lambda: STATUS)
    metrics.declare({"web": "disk"}, ["disk"], object_series=2)
    return metrics


PAGES = {"oss-tail --metrics": Metrics, "oss-tailer run": service, "oss-tailer canary": CanaryMetrics}
"""What makes the metrics that a section of the page describes, by its heading."""


@pytest.fixture(params=PAGES, name="heading")
def _heading(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def page(heading: str) -> str:
    """Its section, and what holds for all."""
    _, found, rest = PAGE.partition(f"\n## `{heading}`\n")
    assert found
    return rest.partition("\n## ")[0]


@pytest.fixture
def metrics(heading: str) -> Exposition:
    return PAGES[heading]()


def families(metrics: Exposition) -> dict[str, tuple[str, set[str]]]:
    """Type and labels of each family of ours, under the name that the page gives it."""
    found = {}
    for family in text_string_to_metric_families(metrics.text()):
        if family.name.startswith("oss_tail_"):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            labels = {label for sample in family.samples for label in sample.labels} - {"le"}
            found[name] = (family.type, labels)
    return found


def test_the_page_lists_every_family_with_its_type_and_labels(page: str, metrics: Exposition) -> None:
    rows = re.findall(r"^\| `(oss_tail_\w+)` \| (\w+) \|([^|]*)\| [^|]+ \|$", page, re.M)
    documented = {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert documented == families(metrics)
    assert len(rows) == len(documented)


def test_the_page_names_every_value_of_every_label(page: str, metrics: Exposition) -> None:
    for family in text_string_to_metric_families(metrics.text()):
        for sample in family.samples if family.name.startswith("oss_tail_") else ():
            for label, value in sample.labels.items():
                assert label in FREE or f"`{value}`" in page, value


def test_names_follow_the_conventions_of_prometheus(metrics: Exposition) -> None:
    for name, (kind, _) in families(metrics).items():
        assert name.endswith("_total") == (kind == "counter")
        assert not re.search(r"(?i)milli|_ms\b|kilo|percent|:", name)
    assert "_created" not in metrics.text(), "series that nobody reads"


def test_promtool_has_nothing_to_say(metrics: Exposition) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=metrics.text(), capture_output=True, text=True, check=False, timeout=30
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_build_info_and_the_process_are_told(metrics: Exposition) -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
    text = metrics.text()
    assert f'oss_tail_build_info{{python="{version}",version="{__version__}"}} 1.0' in text
    assert "\nprocess_resident_memory_bytes " in text


def test_without_the_package_it_says_how_to_install_it(heading: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(errors.ConfigError, match=r"prometheus-client \(pip install 'oss-tail\[metrics\]'\)$"):
        PAGES[heading]()
