"""What happens when another object takes the place of the one that is read: who stops, who starts over, and what of.

Told by the lines of --json, which are the events of the library: the generation stands in each of them.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import pytest

import tailer.local
from tailer.local import Fault
from tests.faults.conftest import BUCKET, TEXT, Faulty

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tailer.oss.transport import Kind
    from tests.cli.conftest import Running
    from tests.faults.conftest import Form

_TYPE = "its type was Appendable and is Normal"
TRUNCATED, OTHER = "file truncated", "has been replaced;  following new file"
LONG = b"".join(b"old %07d\n" % number for number in range(400_000))
SLOW = Fault("slow", operation="GetObject", rate=4e6)


@pytest.fixture
def transport() -> Kind:
    """One of them: which object it is, no transport decides."""
    return "direct"


@dataclass
class Story:
    """What the lines of --json tell: the bytes of each generation that stand at the end, and what happened.

    Refuses a record that does not begin where the one before it ended.
    """

    generations: dict[int, bytes] = field(default_factory=dict)
    happened: list[tuple[str, int]] = field(default_factory=list)
    ended_with: str | None = None
    size_when_sealed: int | None = None

    @classmethod
    def of(cls, output: bytes) -> Story:
        """All whole lines of `output`."""
        story = cls()
        for line in output[: output.rfind(b"\n") + 1].splitlines():
            story.hear(json.loads(line))
        return story

    def hear(self, line: dict[str, object]) -> None:
        match line:
            case {"type": "record", "generation": int(generation), "start": int(start), "end": end, "data": str(data)}:
                known = self.generations.get(generation, b"")
                assert start == len(known)
                self.generations[generation] = known + data.encode() + b"\n"
                assert end == len(self.generations[generation])
            case {"type": "rewound", "generation": int(generation), "to": int(to)}:
                self.generations[generation] = self.generations[generation][:to]
            case {"type": "failed", "delay": None, "error": str(error)}:
                self.ended_with = error
            case {"type": "sealed", "size": int(size)}:
                self.size_when_sealed = size
            case {"type": "replaced" | "truncated" | "appeared" | "gone" as kind, "generation": int(generation)}:
                self.happened.append((str(kind), generation))


def _tells(running: Running, generations: dict[int, bytes]) -> Story:
    """Wait until it tells of these generations, and nothing else."""
    running.wait_for(lambda: Story.of(running.stdout).generations == generations)
    return Story.of(running.stdout)


def _put(tail: Faulty, data: bytes) -> None:
    tail.server.store.put(BUCKET, tail.key, data)


class Change(NamedTuple):
    """How the object is replaced, by which bytes, and how that is told: the event, and the words on stderr."""

    replace: Callable[[Faulty, bytes], None]
    data: bytes
    event: str
    words: str
    reason: str


CHANGES = {
    "PutObject": Change(_put, b"another\nobject, and a longer one\n", "replaced", OTHER, _TYPE),
    "PutObject of the same bytes": Change(_put, TEXT, "replaced", OTHER, _TYPE),
    "PutObject of the same bytes and more": Change(_put, TEXT + b"four\n", "replaced", OTHER, _TYPE),
    "appended anew, shorter": Change(Faulty.holds, b"x\n", "truncated", TRUNCATED, "shorter"),
    "appended anew, as long": Change(Faulty.holds, b"ONE\nTWO\nTHREE\n", "replaced", OTHER, "CRC-64"),
    "appended anew, longer": Change(Faulty.holds, b"ONE\nTWO\nTHREE\nand more\n", "replaced", OTHER, "CRC-64"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_object_is_another_generation(tail: Faulty, change: str) -> None:
    """-F, replaced="restart": one event that carries the new generation, as do all records behind it."""
    replace, data, event, words, _ = CHANGES[change]
    with tail.follows("-F", "--json") as running:
        _tells(running, {0: TEXT})
        replace(tail, data)
        story = _tells(running, {0: TEXT, 1: data})
        assert story.happened[-1] == (event, 1)
        assert story.ended_with is None
        (line,) = running.stderr.splitlines()
        assert line.endswith(words)


@pytest.mark.parametrize("change", CHANGES)
def test_another_object_is_the_end(tail: Faulty, change: str) -> None:
    """-f, replaced="stop": exit 3, ObjectReplaced; not a byte of the new object, and none of the old one is lost."""
    replace, data, _, _, reason = CHANGES[change]
    with tail.follows("-f", "--json") as running:
        _tells(running, {0: TEXT})
        replace(tail, data)
        done = running.end()
    story = Story.of(done.stdout)
    assert (done.status, story.ended_with) == (3, "ObjectReplaced")
    assert story.generations == {0: TEXT}
    (line,) = done.stderr.splitlines()
    assert reason in line


VERSIONED = {
    "put over": _put,
    "deleted and appended anew": lambda tail, data: tail.holds(data),
    "deleted and put": lambda tail, data: (tail.server.store.delete(BUCKET, tail.key), _put(tail, data)),
}


@pytest.mark.parametrize("how", VERSIONED)
@pytest.mark.parametrize("option", ["-f", "-F"])
def test_another_version_is_another_object(tail: Faulty, option: str, how: str) -> None:
    """In a bucket that keeps versions: appends go on in one version, any other one is another generation."""
    tail.server.store.set_versioning(BUCKET, "Enabled")
    tail.holds(TEXT)
    data = TEXT + b"of another version\n"
    with tail.follows(option, "--json") as running:
        _tells(running, {0: TEXT})
        tail.grows(b"four\n")
        _tells(running, {0: TEXT + b"four\n"})
        VERSIONED[how](tail, data)
        if option == "-F":
            story = _tells(running, {0: TEXT + b"four\n", 1: data})
            assert {generation for _, generation in story.happened[-1:]} == {1}
            return
        done = running.end()
    assert Story.of(done.stdout).generations == {0: TEXT + b"four\n"}
    assert (done.status, Story.of(done.stdout).ended_with) in ((3, "ObjectReplaced"), (1, "ObjectNotFound"))
    assert len(done.stderr.splitlines()) == 1


def test_a_version_that_shows_again_goes_on_where_it_was(tail: Faulty) -> None:
    """-F: a delete marker hides the object, its deletion shows the same one: nothing of it is told twice."""
    tail.server.store.set_versioning(BUCKET, "Enabled")
    tail.holds(TEXT)
    with tail.follows("-F", "--json") as running:
        _tells(running, {0: TEXT})
        marker = tail.server.store.delete(BUCKET, tail.key)
        assert marker is not None
        running.wait_for_words("No such key")
        tail.server.store.delete_version(BUCKET, tail.key, marker.version or "")
        tail.grows(b"four\n")
        story = _tells(running, {0: TEXT + b"four\n"})
        assert story.happened[-1] == ("gone", 0)


@pytest.mark.parametrize("status", ["Enabled", "Suspended"])
def test_versions_that_are_switched_on_change_nothing_for_a_reader(tail: Faulty, status: str) -> None:
    """The object that stands there gets the id "null"; it is the same one, and grows on."""
    with tail.follows("-f", "--json") as running:
        _tells(running, {0: TEXT})
        tail.server.store.set_versioning(BUCKET, status)
        tail.grows(b"four\n")
        story = _tells(running, {0: TEXT + b"four\n"})
        assert story.ended_with is None
        assert running.stderr == ""


@pytest.mark.parametrize("option", ["-f", "-F"])
def test_truncated_under_the_reader(form: Form, transport: Kind, tmp_path: Path, option: str) -> None:
    """Bytes are cut off its end: for whoever read them it is another object, which begins with its first byte."""
    with tailer.local.running([BUCKET], root=tmp_path / "root") as server:
        tail = Faulty(server, tmp_path, transport, "log").of_form(form)
        tail.holds(TEXT)
        with tail.follows(option, "--json") as running:
            _tells(running, {0: TEXT})
            os.truncate(tmp_path / "root" / BUCKET / "log", 4)
            if option == "-F":
                story = _tells(running, {0: TEXT, 1: TEXT[:4]})
                assert story.happened[-1] == ("truncated", 1)
                return
            done = running.end()
    assert (done.status, Story.of(done.stdout).ended_with) == (3, "ObjectReplaced")
    assert Story.of(done.stdout).generations == {0: TEXT}


@pytest.mark.parametrize("option", ["-f", "-F"])
def test_sealed_while_following(tail: Faulty, option: str) -> None:
    """It is complete: all of it, the event, exit 0."""
    with tail.follows(option, "--json") as running:
        _tells(running, {0: TEXT})
        tail.grows(b"the last\n")
        tail.server.store.seal(BUCKET, tail.key, len(TEXT) + 9)
        done = running.end()
    story = Story.of(done.stdout)
    assert (done.status, done.stderr, story.ended_with) == (0, "", None)
    assert story.generations == {0: TEXT + b"the last\n"}
    assert story.size_when_sealed == len(TEXT) + 9


@pytest.mark.parametrize("option", ["-f", "-F"])
def test_deleted_while_it_is_read(tail: Faulty, option: str) -> None:
    """In the middle of a catch-up: records that were told are of the old object; the next one comes whole with -F."""
    tail.holds(LONG)
    tail.suffers(SLOW)
    with tail.follows(option, "--json") as running:
        running.wait_for(lambda: running.stdout != b"")
        tail.server.store.delete(BUCKET, tail.key)
        tail.suffers()
        if option == "-f":
            done = running.end()
            story = Story.of(done.stdout)
            assert (done.status, story.ended_with) == (1, "ObjectNotFound")
        else:
            running.wait_for_words("No such key")
            tail.grows(TEXT)
            running.wait_for(lambda: Story.of(running.stdout).generations.get(1) == TEXT)
            story = Story.of(running.stdout)
            assert ("gone", 0) in story.happened
            assert story.happened[-1] == ("appeared", 1)
        assert LONG.startswith(story.generations[0])
