"""The service as a whole, over real sockets: it begins, takes over another configuration, ends, and says how it is."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import re
import socket
import sqlite3
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

import tailer.local
import tailer.service
from tailer.checkpoints import Checkpoints
from tailer.configfile import GroupConfig, read_config
from tailer.core.position import ObjectRef
from tailer.errors import CheckpointError, ConfigError, OutputClosed
from tailer.fleet import Fleet
from tailer.local import Fault
from tailer.oss.client import Client
from tailer.service import Service
from tailer.systemd import Notifier
from tests.service_bench import Bench, group, until

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    with tailer.local.running(["logs"]) as server:
        for name, value in {**server.environment(), "HOME": str(tmp_path)}.items():
            monkeypatch.setenv(name, value)
        yield Bench(server, tmp_path)


class Followed(Fleet):
    """Says what is done with it."""

    log: ClassVar[list[tuple[str, str]]] = []

    async def run(self) -> None:
        self.log.append(("run", self.group.name))
        await super().run()

    async def drain(self, seconds: float) -> int:
        self.log.append(("drain", self.group.name))
        return await super().drain(seconds)

    async def apply(self, group: GroupConfig) -> None:
        self.log.append(("apply", group.name))
        await super().apply(group)


@pytest.fixture
def deeds(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What is done with the fleets, in order."""
    monkeypatch.setattr(Followed, "log", [])
    monkeypatch.setattr(tailer.service, "Fleet", Followed)
    return Followed.log


async def ask(bench: Bench, path: str, data: bytes | None = None) -> tuple[int, str]:
    """What the port answers: status and text."""

    def get() -> tuple[int, str]:
        request = urllib.request.Request(f"http://127.0.0.1:{bench.port}{path}", data)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    return await asyncio.to_thread(get)


# --- from begin to end


def test_what_grows_is_delivered_and_the_port_tells_of_it(bench: Bench) -> None:
    bench.append("a.log", b"one\n")
    bench.write(group("web", "oss://logs/*.log"))

    async def run() -> None:
        async with bench.running() as service:
            await until(lambda: bench.mirrored("a.log") == b"one\n")
            bench.append("a.log", b"two\n")
            bench.append("b.log", b"new\n")
            await until(lambda: bench.mirrored("a.log") == b"one\ntwo\n" and bench.mirrored("b.log") == b"new\n")
            await until(lambda: service.status().ready)
            assert await ask(bench, "/healthz") == (200, "ok\n")
            assert await ask(bench, "/readyz") == (200, "ready\n")
            status = json.loads((await ask(bench, "/status.json"))[1])
            assert (status["healthy"], status["ready"], status["problems"]) == (True, True, [])
            assert {one["object"]: one["position"] for one in status["objects"]} == {
                "oss://logs/a.log": 8,
                "oss://logs/b.log": 4,
            }
            assert status["sinks"][0]["delivered_bytes"] == 12
            assert status["requests"]["today"] > 0
            metrics = (await ask(bench, "/metrics"))[1]
            assert re.search(r'oss_tail_\w*bytes_total{group="web",sink="mirror"} 12.0', metrics)
            grown = {"bucket": {"name": "logs"}, "object": {"key": "a.log"}}
            text = json.dumps({"events": [{"eventName": "ObjectCreated:AppendObject", "oss": grown}]}).encode()
            assert json.loads((await ask(bench, "/hints", text))[1]) == {"known": 1, "unknown": 0}

    asyncio.run(run())


def test_as_many_objects_have_metrics_as_are_asked_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tailer.service, "_MOST_OBJECTS", 1)
    for number in range(4):
        bench.append(f"{number}.log", b"one\n")
    bench.write(group("web", "oss://logs/*.log"), listen='"127.0.0.1:0"\nobject_series = 3')

    async def run() -> None:
        async with bench.running() as service:
            await until(lambda: len(re.findall(r'oss_tail_object_lag_seconds{.*"oss:', service.metrics_text())) == 3)

    asyncio.run(run())


def test_a_restart_goes_on_where_it_was_and_reads_nothing_again(bench: Bench) -> None:
    bench.append("a.log", b"one\n")
    bench.write(group("web", "oss://logs/*.log"))

    async def run(expected: bytes) -> int:
        async with bench.running() as service:
            await until(lambda: bench.mirrored("a.log") == expected)
        return service.status().sinks[0].delivered_bytes

    assert asyncio.run(run(b"one\n")) == 4
    bench.append("a.log", b"two\n")
    assert asyncio.run(run(b"one\ntwo\n")) == 4


def test_requests_of_all_groups_together_are_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tailer.service, "_MOST_REQUESTS", 3)
    under_way = most = 0
    fetch = Client.fetch

    async def counted(*arguments: Any) -> Any:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        try:
            return await fetch(*arguments)
        finally:
            under_way -= 1

    monkeypatch.setattr(Client, "fetch", counted)
    keys = [f"{place}/{number}.log" for place in "ab" for number in range(30)]
    for key in keys:
        bench.append(key, b"one\n")
    bench.write(group("a", "oss://logs/a/*"), group("b", "oss://logs/b/*"))

    async def run() -> None:
        async with bench.running():
            await until(lambda: all(bench.mirrored(key) == b"one\n" for key in keys))

    asyncio.run(run())
    assert most == 3


def test_without_a_port_there_is_none(bench: Bench) -> None:
    bench.write(group("web", "oss://logs/*.log"), listen="false")

    async def run() -> None:
        async with bench.running() as service:
            await until(lambda: service.status().ready)
            assert bench.port == 0
            with pytest.raises(ConfigError, match="no metrics without a port"):
                service.metrics_text()

    asyncio.run(run())


def test_without_its_packages_a_port_is_refused_to_who_asks_for_one_and_left_out_else(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "aiohttp" else really(name))
    bench.write(group("web", "oss://logs/*.log"))
    with pytest.raises(ConfigError, match="needs the package aiohttp"):
        asyncio.run(Service(bench.path, open_port=bench.open_port).run())
    bench.path.write_text(bench.path.read_text().replace('[server]\nlisten = "127.0.0.1:0"\n', ""))

    async def run() -> None:
        async with bench.running() as service:
            await until(lambda: service.status().ready)
            assert bench.port == 0

    asyncio.run(run())


def test_a_port_that_is_taken_ends_it_before_anything_is_read(bench: Bench) -> None:
    bench.append("a.log", b"one\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bench.write(group("web", "oss://logs/*.log"), listen=f'"127.0.0.1:{taken.getsockname()[1]}"')
        with pytest.raises(ConfigError, match="cannot serve on"):
            asyncio.run(Service(bench.path, open_port=bench.open_port).run())
    assert bench.mirrored("a.log") == b""


def test_a_group_has_one_owner(bench: Bench) -> None:
    bench.write(group("web", "oss://logs/*.log"))

    async def run() -> None:
        async with bench.running():
            await until(lambda: bench.port)
            with pytest.raises(CheckpointError, match="web"):
                await Service(bench.path, open_port=bench.open_port).run()

    asyncio.run(run())


def test_checkpoints_of_a_newer_version_are_refused_and_left_alone(bench: Bench) -> None:
    bench.write(group("web", "oss://logs/*.log"))
    path = bench.path.with_name("state.db")
    Checkpoints.open(path, "web", owner="a test").close()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="newer"):
        asyncio.run(Service(bench.path).run())
    assert path.read_bytes() == before


def test_it_ends_when_nobody_reads_what_it_prints(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.append("a.log", b"one\n")
    bench.path.write_text(
        'checkpoint = "state.db"\n[server]\nlisten = false\n[sinks.out]\ntype = "stdout"\n'
        + group("web", "oss://logs/*.log", "out")
    )
    reading, writing = os.pipe()
    os.close(reading)
    really = tailer.sinks.stdout.OutputStream
    monkeypatch.setattr("tailer.outlets.OutputStream", lambda: really(writing))
    with pytest.raises(OutputClosed):
        asyncio.run(asyncio.wait_for(Service(bench.path).run(), 30))
    os.close(writing)


# --- another configuration


def test_what_did_not_change_is_not_disturbed(bench: Bench, deeds: list[tuple[str, str]]) -> None:
    """A group that stays, one whose interval changes, one that goes, one that comes, all in one reload."""
    for name in ("stays", "changes", "goes", "comes"):
        bench.append(f"{name}/a.log", b"one\n")
    same = group("stays", "oss://logs/stays/*")
    bench.write(same, group("changes", "oss://logs/changes/*"), group("goes", "oss://logs/goes/*"))

    async def run() -> None:
        async with bench.running() as service:
            await until(lambda: service.status().ready)
            await until(lambda: bench.mirrored("goes/a.log") == b"one\n")
            deeds.clear()
            changed = group("changes", "oss://logs/changes/*", more='poll_max = "7s"')
            bench.write(same, changed, group("comes", "oss://logs/comes/*"))
            service.reload()
            await until(lambda: bench.mirrored("comes/a.log") == b"one\n")
            assert sorted(deeds) == [("apply", "changes"), ("drain", "goes"), ("run", "comes")]
            bench.append("goes/a.log", b"two\n")
            for name in ("stays", "changes", "comes"):
                bench.append(f"{name}/a.log", b"two\n")
                await until(lambda name=name: bench.mirrored(f"{name}/a.log") == b"one\ntwo\n")
            assert bench.mirrored("goes/a.log") == b"one\n"
            assert [one.name for one in service.status().groups] == ["stays", "changes", "comes"]
            metrics = service.metrics_text()
            assert 'group="comes"' in metrics
            assert 'group="goes"' not in metrics

    asyncio.run(run())


def test_a_changed_file_is_taken_over_without_a_signal(bench: Bench) -> None:
    pytest.importorskip("watchdog")
    bench.append("b/b.log", b"b\n")
    bench.write(group("a", "oss://logs/a/*"))

    async def run() -> None:
        async with bench.running() as service:
            await until(lambda: service.status().ready)
            new = bench.path.with_suffix(".new")
            text = bench.path.read_text() + group("b", "oss://logs/b/*")
            new.write_text(text)
            os.replace(new, bench.path)  # as an editor does
            await until(lambda: bench.mirrored("b/b.log") == b"b\n")

    asyncio.run(run())


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        ("[groups.web]\n", "service.toml"),
        ("poll_mn = 3\n", "poll_mn"),
        (
            "[sinks.o]\ntype = 'http'\nurl = 'http://localhost/'\nheaders = { Authorization = 'Bearer hidden' }\n",
            "headers",
        ),
    ],
    ids=["syntax", "key", "literal-secret"],
)
def test_a_bad_file_changes_nothing_and_is_reported(
    bench: Bench, deeds: list[tuple[str, str]], mistake: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    good = group("web", "oss://logs/*.log")
    bench.write(good)

    async def run() -> None:
        async with bench.running() as service:
            await until(lambda: service.status().ready)
            deeds.clear()
            bench.write(good, mistake)
            service.reload()
            await until(lambda: service.status().config_error)
            status = service.status()
            assert said in (status.config_error or "")
            assert "hidden" not in (status.config_error or "") + caplog.text
            assert re.search(r'errors_total\{group="web",[^}]*stage="config"[^}]*\} 1.0', service.metrics_text())
            assert status.healthy, "it does its work: nobody is to restart it with that file"
            assert deeds == []
            bench.append("a.log", b"one\n")
            await until(lambda: bench.mirrored("a.log") == b"one\n")
            bench.write(good)
            service.reload()
            await until(lambda: service.status().config_error is None)
            assert deeds == []

    asyncio.run(run())


def test_another_sink_takes_over_where_the_former_one_was(bench: Bench, deeds: list[tuple[str, str]]) -> None:
    other = '[sinks.other]\ntype = "jsonl"\npath = "out.jsonl"\n'
    bench.append("a.log", b"one\n")
    bench.append("b.log", b"1\n")
    still = group("still", "oss://logs/b.log")
    bench.write(other, group("web", "oss://logs/a.log", "other"), still)
    out = bench.path.with_name("out.jsonl")
    moved = bench.path.with_name("moved.jsonl")

    async def run() -> None:
        async with bench.running() as service:
            await until(lambda: out.exists() and '"one"' in out.read_text())
            await until(lambda: bench.mirrored("b.log") == b"1\n")
            deeds.clear()
            bench.write(other.replace("out.", "moved."), group("web", "oss://logs/a.log", "other"), still)
            service.reload()
            bench.append("a.log", b"two\n")
            await until(lambda: moved.exists() and '"two"' in moved.read_text())
            assert '"two"' not in out.read_text()
            assert '"one"' not in moved.read_text()
            assert deeds == [("drain", "web"), ("run", "web")]

    asyncio.run(run())


def test_the_port_moves_and_stays_where_it_was_when_it_cannot(bench: Bench) -> None:
    same = group("web", "oss://logs/*.log")
    bench.write(same)

    async def run() -> None:
        async with bench.running() as service:
            await until(lambda: service.status().ready)
            first = bench.port
            with socket.create_server(("127.0.0.1", 0)) as taken:
                bench.write(same, listen=f'"127.0.0.1:{taken.getsockname()[1]}"')
                service.reload()
                await until(lambda: service.status().config_error)
                assert "cannot serve" in (service.status().config_error or "")
                assert (await ask(bench, "/readyz"))[0] == 200
                free = taken.getsockname()[1]
            bench.write(same, listen=f'"127.0.0.1:{free}"')
            service.reload()
            await until(lambda: bench.port != first)
            assert (await ask(bench, "/readyz"))[0] == 200

    asyncio.run(run())


def test_a_port_that_comes_later_shows_what_is_counted_from_then_on(bench: Bench) -> None:
    """By a group, a sink and a client that were there before."""
    bench.write(group("web", "oss://logs/*.log"), listen="false")

    async def run() -> None:
        async with bench.running() as service:
            bench.append("a.log", b"one\n")
            await until(lambda: bench.mirrored("a.log") == b"one\n")
            bench.write(group("web", "oss://logs/*.log"))
            service.reload()
            await until(lambda: bench.port)
            bench.append("a.log", b"two\n")
            await until(lambda: bench.mirrored("a.log") == b"one\ntwo\n")
            metrics = (await ask(bench, "/metrics"))[1]
            assert 'oss_tail_delivered_bytes_total{group="web",sink="mirror"} 4.0' in metrics
            assert re.search(r'oss_tail_requests_total{code_class="2xx",operation="get"} [1-9]', metrics)
            assert re.search(r'oss_tail_sink_duration_seconds_count{sink="mirror"} [1-9]', metrics)

    asyncio.run(run())


def test_a_group_that_drains_for_long_does_not_stand_still(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever would be started anew for that could not deliver what it has in hand."""
    monkeypatch.setattr(tailer.service, "_STANDSTILL", 1.5)
    begun, go_on = bench.path.with_name("begun"), bench.path.with_name("go-on")
    command = f"touch {begun}; until [ -e {go_on} ]; do sleep 0.05; done"
    slow = f'[sinks.slow]\ntype = "exec"\ncommand = ["sh", "-c", "{command}"]\n'
    bench.append("a.log", b"one\n")
    bench.write(slow, group("web", "oss://logs/*.log", "slow"), group("other", "oss://logs/*.other"))

    async def run() -> None:
        async with bench.running() as service:
            await until(begun.exists)
            bench.write(slow, group("other", "oss://logs/*.other"))
            service.reload()
            fleet = service._groups["web"].fleet
            await until(lambda: time.monotonic() - fleet.beat > 2.0)
            assert (service.moves(), await ask(bench, "/livez")) == (True, (200, "ok\n"))
            assert await ask(bench, "/healthz") == (200, "ok\n")
            go_on.touch()
            await until(lambda: [*service._groups] == ["other"])

    asyncio.run(run())


def test_reloads_by_the_hundred_are_a_few(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.write(group("web", "oss://logs/*.log"))
    loads = 0
    really = tailer.service.load_config

    def load(path: Path) -> object:
        nonlocal loads
        loads += 1
        return really(path)

    monkeypatch.setattr(tailer.service, "load_config", load)

    async def run() -> None:
        async with bench.running() as service:
            await until(lambda: service.status().ready)
            for _ in range(100):
                service.reload()
                await asyncio.sleep(0.001)
            bench.write(group("web", "oss://logs/*.log"), group("last", "oss://logs/last/*"))
            service.reload()
            await until(lambda: len(service.status().groups) == 2)

    asyncio.run(run())
    assert loads <= 6


def test_a_file_without_a_change_is_said_to_be_read(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """The same bytes, and others of the same meaning."""
    caplog.set_level("INFO", "tailer.service")
    bench.write(group("web", "oss://logs/*.log"))

    def told() -> int:
        return caplog.text.count("the configuration was read again, nothing changed")

    async def run() -> None:
        async with bench.running() as service:
            service.reload()
            await until(lambda: told() == 1)
            bench.path.write_text(bench.path.read_text() + "\n# a word to whoever reads it\n")
            service.reload()
            await until(lambda: told() >= 2)

    asyncio.run(run())


def test_the_checkpoint_file_and_another_owner_of_a_new_group_are_refused(bench: Bench) -> None:
    same = group("web", "oss://logs/*.log")
    bench.write(same)

    async def run() -> None:
        async with bench.running() as service:
            await until(lambda: service.status().ready)
            bench.path.write_text(bench.path.read_text().replace("state.db", "other.db"))
            service.reload()
            await until(lambda: "restart" in (service.status().config_error or ""))
            with Checkpoints.open(bench.path.with_name("state.db"), "new", owner="somebody else"):
                bench.write(same, group("new", "oss://logs/new/*"))
                service.reload()
                await until(lambda: "somebody else" in (service.status().config_error or ""))
            service.reload()
            await until(lambda: len(service.status().groups) == 2)

    asyncio.run(run())


def test_a_mistake_of_ours_in_a_reload_stops_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bench.write(group("web", "oss://logs/*.log"))

    async def run() -> None:
        async with bench.running() as service:
            with monkeypatch.context() as broken:
                broken.setattr(tailer.service, "load_config", lambda _: 1 / 0)
                service.reload()
                await until(lambda: "ZeroDivisionError" in (service.status().config_error or ""))
            bench.append("a.log", b"one\n")
            await until(lambda: bench.mirrored("a.log") == b"one\n")
            service.reload()
            await until(lambda: service.status().config_error is None)

    asyncio.run(run())
    assert "a mistake of ours" in caplog.text


def test_told_to_end_in_the_middle_of_a_reload_it_leaves_nothing_behind(bench: Bench) -> None:
    """The group that moves to another sink has a batch in hand meanwhile."""
    slow = f'[sinks.slow]\ntype = "exec"\ncommand = ["sh", "-c", "touch {bench.mirror}.begun; sleep 1"]\n'
    bench.append("a.log", b"one\n")
    bench.write(slow, group("web", "oss://logs/*.log", "slow"))
    begun = bench.mirror.with_name("mirror.begun")
    descriptors = len(os.listdir("/proc/self/fd"))

    async def run() -> None:
        async with bench.running() as service:
            await until(begun.exists)
            bench.write(
                '[sinks.h]\ntype = "http"\nurl = "http://127.0.0.1:9/"\n', group("web", "oss://logs/*.log", "h")
            )
            service.reload()
            await asyncio.sleep(0.1)

    asyncio.run(run())
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 2


def test_told_to_end_while_a_reload_ends_a_group_it_takes_no_longer_than_it_may(bench: Bench) -> None:
    """Not that time for the group that went, and then as much for the others."""
    slow = f'[sinks.slow]\ntype = "exec"\ncommand = ["sh", "-c", "echo >> {bench.mirror}.begun; sleep 60"]\n'
    begun = bench.mirror.with_name("mirror.begun")
    bench.append("a/a.log", b"one\n")
    bench.append("b/b.log", b"one\n")
    stays, goes = group("stays", "oss://logs/a/*", "slow"), group("goes", "oss://logs/b/*", "slow")

    def write(*parts: str) -> None:
        bench.write(slow, *parts)
        bench.path.write_text(bench.path.read_text().replace("drain = 10", "drain = 4"))

    async def run() -> None:
        write(stays, goes)
        service = Service(bench.path, open_port=bench.open_port, notifier=Notifier({}))
        running = asyncio.create_task(service.run())
        await until(lambda: begun.exists() and len(begun.read_bytes()) == 2)
        write(stays)
        service.reload()
        await until(lambda: service._reloading.locked())
        started = time.monotonic()
        service.stop()
        assert await running == 1
        assert time.monotonic() - started < 6.5

    asyncio.run(run())


def test_told_to_end_it_does_not_wait_for_a_listing_that_a_reload_waits_for(bench: Bench) -> None:
    """Which takes its time: the service is in trouble."""
    bench.append("a.log", b"one\n")
    bench.write(group("web", "oss://logs/*.log"))

    async def run() -> None:
        async with bench.running() as service:
            await until(lambda: service.status().ready)
            bench.server.faults.add(Fault("stall", operation="ListObjectsV2", seconds=20.0))
            await until(lambda: any(one["injected"] for one in bench.server.faults.report()))
            bench.write(group("web", "oss://logs/*.log", more="poll_max = 7"))
            service.reload()
            await until(lambda: service.config_of("web").poll_max == 7.0)
            started = time.monotonic()
        assert time.monotonic() - started < 5.0
        bench.server.faults.clear()

    asyncio.run(run())


def test_the_example_of_the_page_is_good(tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "service.md").read_text()
    found = re.search(r"```toml\n(.*?)```", page, re.DOTALL)
    assert found is not None
    example = tmp_path / "service.toml"
    example.write_text(found[1])
    config, problems = read_config(example)
    assert config is not None
    assert [problem for problem in problems if not problem.warning] == []


# --- what is not well


def test_a_bucket_that_vanishes_is_a_problem_until_it_is_there_again(bench: Bench) -> None:
    bench.append("a.log", b"one\n")
    bench.write(group("web", "oss://logs/*.log"), head="stuck = 1")

    async def run() -> None:
        async with bench.running() as service:
            await until(lambda: bench.mirrored("a.log") == b"one\n")
            bench.server.store.delete("logs", "a.log")
            bench.server.store.delete_bucket("logs")
            await until(lambda: not service.status().healthy)
            assert any("NoSuchBucket" in problem for problem in service.status().problems)
            assert (await ask(bench, "/healthz"))[0] == 503
            bench.server.store.create_bucket("logs")
            bench.append("b.log", b"two\n")
            await until(lambda: bench.mirrored("b.log") == b"two\n")
            await until(lambda: service.status().healthy)

    asyncio.run(run())


def test_a_sink_that_is_out_of_order_makes_it_unhealthy_and_loses_nothing(bench: Bench) -> None:
    bench.write(group("web", "oss://logs/*.log"))

    async def run() -> None:
        async with bench.running() as service:
            bench.mirror.write_text("a file where the folder should be")
            bench.append("a.log", b"one\n")
            await until(lambda: not service.status().healthy)
            assert any(problem.startswith("sink mirror: cannot mirror") for problem in service.status().problems)
            assert service.status().sinks[0].errors >= 1
            bench.mirror.unlink()
            await until(lambda: bench.mirrored("a.log") == b"one\n")
            await until(lambda: service.status().healthy)

    asyncio.run(run())


def test_a_group_that_fails_begins_anew_and_the_others_go_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = asyncio.Event()

    class Failing(Fleet):
        async def run(self) -> None:
            if self.group.name == "bad" and not broken.is_set():
                broken.set()
                raise ZeroDivisionError("a mistake")
            await super().run()

    monkeypatch.setattr(tailer.service, "Fleet", Failing)
    bench.append("bad/a.log", b"one\n")
    bench.append("good/a.log", b"one\n")
    bench.write(group("bad", "oss://logs/bad/*"), group("good", "oss://logs/good/*"))

    async def run() -> None:
        async with bench.running() as service:
            await until(broken.is_set)
            assert "group bad: ZeroDivisionError: a mistake" in service.status().problems
            await until(lambda: bench.mirrored("good/a.log") == b"one\n")
            await until(lambda: bench.mirrored("bad/a.log") == b"one\n")
            await until(lambda: service.status().healthy)

    asyncio.run(run())
    assert "a mistake of ours" in caplog.text


def test_what_is_in_hand_when_it_is_told_to_end_at_once_comes_again(bench: Bench) -> None:
    bench.append("a.log", b"one\n")
    slow = f'[sinks.slow]\ntype = "exec"\ncommand = ["sh", "-c", "touch {bench.mirror}.begun; sleep 60"]\n'
    bench.write(slow, group("web", "oss://logs/*.log", "slow"))
    begun = bench.mirror.with_name("mirror.begun")

    async def run() -> int:
        service = Service(bench.path, open_port=bench.open_port)
        running = asyncio.create_task(service.run())
        await until(begun.exists)
        service.stop()
        await asyncio.sleep(0)
        assert not service.status().ready
        service.stop()
        return await asyncio.wait_for(running, 30)

    assert asyncio.run(run()) == 1
    bench.write(group("web", "oss://logs/*.log"))

    async def again() -> None:
        async with bench.running():
            await until(lambda: bench.mirrored("a.log") == b"one\n")

    asyncio.run(again())


# --- systemd


def test_systemd_hears_that_it_is_ready_alive_reloading_and_stopping_and_how_it_is(
    bench: Bench, tmp_path: Path
) -> None:
    bench.append("a.log", b"one\n")
    bench.write(group("web", "oss://logs/*.log"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        heard: list[str] = []

        def listen() -> list[str]:
            with contextlib.suppress(BlockingIOError):
                while True:
                    heard.append(manager.recv(1000).decode().partition("\n")[0])
            return heard

        async def run() -> None:
            environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "300000"}
            async with bench.running(Notifier(environ)) as service:
                await until(lambda: listen().count("WATCHDOG=1") >= 2)
                await until(lambda: "STATUS=1 object in 1 group, 0 bytes behind" in listen())
                service.reload()
                await until(lambda: listen().count("READY=1") == 2)

        asyncio.run(run())
        listen()
    states = [message for message in heard if message.partition("=")[0] not in ("STATUS", "WATCHDOG")]
    assert states == ["READY=1", "RELOADING=1", "READY=1", "STOPPING=1"]
    assert heard[0] == "READY=1"


def test_systemd_is_not_told_that_all_is_in_motion_when_a_group_stands_still(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bench.write(group("web", "oss://logs/*.log"))
    alive: list[bool] = []
    monkeypatch.setattr(Notifier, "alive", lambda _: alive.append(True))
    fleets: list[Fleet] = []

    class Known(Fleet):
        async def run(self) -> None:
            fleets.append(self)
            await super().run()

        @property
        def beat(self) -> float:
            return self._beat - (1000 if stalled else 0)

        @beat.setter
        def beat(self, value: float) -> None:
            self._beat = value

    stalled = False
    monkeypatch.setattr(tailer.service, "Fleet", Known)

    async def run() -> None:
        nonlocal stalled
        environ = {"NOTIFY_SOCKET": str(tmp_path / "nobody"), "WATCHDOG_USEC": "60000"}
        async with bench.running(Notifier(environ)) as service:
            await until(lambda: alive)
            stalled = True
            await until(lambda: any("stands still" in problem for problem in service.status().problems))
            alive.clear()
            await asyncio.sleep(0.2)
            assert not alive
            stalled = False
            await until(lambda: alive)

    asyncio.run(run())


def test_a_hint_is_told_to_every_group_that_follows_the_object(bench: Bench) -> None:
    bench.append("a.log", b"one\n")
    bench.write(group("one", "oss://logs/*.log"), "[sinks.other]\ntype = 'file'\npath = 'other'\n")
    bench.path.write_text(bench.path.read_text() + group("two", "oss://logs/a.log", "other"))

    async def run() -> None:
        async with bench.running() as service:
            await until(lambda: bench.mirrored("a.log") and bench.mirrored("a.log", "other"))
            assert service.hint(ObjectRef("logs", "a.log"))
            assert not service.hint(ObjectRef("logs", "elsewhere/b"))

    asyncio.run(run())
