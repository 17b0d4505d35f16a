"""A file that becomes another one is noticed, however that is done; other files in its folder are not it."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

import pytest

from tailer.filechange import stamp, watching

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytest.importorskip("watchdog")


async def noticed(path: Path, change: Callable[[], object]) -> None:
    """That `change` is noticed."""
    changed = asyncio.Event()
    with watching(path, changed.set, stamp(path)):
        change()
        await asyncio.wait_for(changed.wait(), 30)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "service.toml"
    path.write_text("one")
    return path


def test_it_was_written(file: Path) -> None:
    asyncio.run(noticed(file, lambda: file.write_text("two of them")))


def test_another_one_took_its_place(file: Path) -> None:
    new = file.with_suffix(".new")
    new.write_text("two")
    asyncio.run(noticed(file, lambda: new.replace(file)))


def test_it_was_written_between_being_read_and_being_watched(file: Path) -> None:
    seen = stamp(file)
    file.write_text("two of them")

    async def run() -> None:
        changed = asyncio.Event()
        with watching(file, changed.set, seen):
            await asyncio.wait_for(changed.wait(), 30)

    asyncio.run(run())


def test_it_came_to_be(tmp_path: Path) -> None:
    path = tmp_path / "later.toml"
    asyncio.run(noticed(path, lambda: path.write_text("one")))


def test_a_link_on_the_way_leads_elsewhere_as_in_a_mounted_config_map(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"..{number}").mkdir()
        (tmp_path / f"..{number}" / "service.toml").write_text("x" * number)
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "service.toml").symlink_to("..data/service.toml")

    def swap() -> None:
        (tmp_path / "..new").symlink_to("..2")
        os.replace(tmp_path / "..new", tmp_path / "..data")

    asyncio.run(noticed(tmp_path / "service.toml", swap))


def test_what_a_link_leads_to_was_written(tmp_path: Path) -> None:
    true = tmp_path / "elsewhere" / "true.toml"
    true.parent.mkdir()
    true.write_text("one")
    (tmp_path / "service.toml").symlink_to(true)
    asyncio.run(noticed(tmp_path / "service.toml", lambda: true.write_text("two of them")))


def test_other_files_are_not_it_and_a_hundred_changes_are_a_few(file: Path) -> None:
    calls = 0
    write, other = file.write_text, file.with_name("state.db").write_text

    async def run() -> None:
        changed = asyncio.Event()

        def count() -> None:
            nonlocal calls
            calls += 1
            changed.set()

        with watching(file, count, stamp(file)):
            for number in range(50):
                other("x" * number)
            await noticed(file.with_name("last"), lambda: file.with_name("last").write_text("all is seen now"))
            assert calls == 0
            for number in range(100):
                write("y" * (number + 10))
            await asyncio.wait_for(changed.wait(), 30)
            await noticed(file.with_name("very-last"), lambda: file.with_name("very-last").write_text("now"))

    asyncio.run(run())
    assert 1 <= calls <= 10


def test_without_the_package_it_is_not_watched_and_a_warning_says_what_is_needed(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "watchdog.observers", None)
    write = file.write_text

    async def run() -> None:
        with watching(file, lambda: pytest.fail("who told?"), stamp(file)):
            write("two of them")
            await asyncio.sleep(0)

    asyncio.run(run())
    assert "SIGHUP is needed" in caplog.text


def test_a_folder_that_cannot_be_watched_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        with watching(tmp_path / "nowhere" / "service.toml", lambda: None, None):
            await asyncio.sleep(0)

    asyncio.run(run())
    assert "SIGHUP is needed" in caplog.text
