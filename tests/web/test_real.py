"""The port, the page and `oss-tailer top` over a service that is not made up."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from typing import TYPE_CHECKING

import pytest

import tailer.local
from tailer.cli.top import fetch, report
from tests.chromium import open_page, running_chromium
from tests.service_bench import Bench, group, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOSTILE = "<img src=x onerror=alert(1)>.log"


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    with tailer.local.running(["logs"]) as server:
        for name, value in {**server.environment(), "HOME": str(tmp_path)}.items():
            monkeypatch.setenv(name, value)
        yield Bench(server, tmp_path)


def test_the_page_shows_how_far_each_object_is(bench: Bench, tmp_path: Path) -> None:
    keys = [*(f"app-{number}.log" for number in range(5)), HOSTILE]
    for key in keys:
        bench.append(key, b"0123456789\n" * 1000)
    bench.write(group("web", "oss://logs/*.log"))

    async def main(browser: str) -> None:
        async with bench.running(), open_page(browser, f"http://127.0.0.1:{bench.port}/") as page:
            await page.wait_for("document.querySelector('#verdict')?.dataset.level === 'well'")
            rows = "[...document.querySelectorAll('#objects tbody tr')]"
            cells = f"{rows}.map(row => [...row.children].map(cell => cell.innerText))"
            await page.wait_for(f"{cells}.filter(row => row.includes('11,000')).length === 6")
            assert sorted(row[0] for row in await page.value(cells)) == sorted(f"oss://logs/{key}" for key in keys)
            bench.append("app-3.log", b"more\n")
            await page.wait_for(f"{cells}.some(row => row[0].endsWith('app-3.log') && row.includes('11,005'))")
            await page.wait_for("document.querySelector('#sinks tbody tr').innerText.includes('66.0 kB')")
            assert page.complaints == []
            await page.screenshot("status-real")

    (tmp_path / "chromium").mkdir()
    with running_chromium(tmp_path / "chromium") as browser:
        asyncio.run(main(browser))


def test_a_notification_of_oss_has_an_object_looked_at_long_before_the_next_listing(bench: Bench) -> None:
    bench.append("a b.log", b"one\n")
    table = group("web", "oss://logs/*.log", more="poll_max = 7200")
    bench.write(table.replace("list_interval = 0.1", "list_interval = 3600"))
    event = {
        "eventName": "ObjectCreated:AppendObject",
        "oss": {"bucket": {"name": "logs"}, "object": {"key": "a b.log"}},
    }

    def notify() -> object:
        body = json.dumps({"events": [event]}).encode()
        with urllib.request.urlopen(f"http://127.0.0.1:{bench.port}/hints", body, timeout=20) as answer:
            return json.loads(answer.read())

    async def main() -> None:
        async with bench.running():
            await until(lambda: bench.mirrored("a b.log") == b"one\n")
            bench.append("a b.log", b"two\n")
            assert await asyncio.to_thread(notify) == {"known": 1, "unknown": 0}
            await until(lambda: bench.mirrored("a b.log") == b"one\ntwo\n")

    asyncio.run(main())


def test_top_understands_what_a_service_says(bench: Bench) -> None:
    bench.append("app.log", b"one\n")
    bench.write(group("web", "oss://logs/*.log"))

    async def main() -> list[str]:
        async with bench.running() as service:
            await until(lambda: bench.mirrored("app.log") == b"one\n" and service.status().ready)
            status = await asyncio.to_thread(fetch, f"http://127.0.0.1:{bench.port}/status.json")
            return [line.text for line in report(status, 200, "name")]

    lines = asyncio.run(main())
    assert lines[0] == "All is well"
    assert lines[-1].startswith("idle   proven")
    assert lines[-1].endswith("oss://logs/app.log")
