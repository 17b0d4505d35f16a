"""`exec`: what a command gets, when that counts as delivered, and what is said when it does not."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tailer.core.events import Batch, Gone
from tailer.core.position import ObjectRef
from tailer.errors import SinkBusy, SinkError
from tailer.sinks.exec import CommandPerBatch, CommandStream
from tailer.sinks.retry import Retrying

REF = ObjectRef("logs", "a b/$(id).log")
LARGE = os.urandom(3 << 20)  # far more than a pipe holds

Sink = CommandPerBatch | CommandStream


def batch(data: bytes, start: int = 0, *, generation: int = 0, ref: ObjectRef = REF) -> Batch:
    return Batch(ref, generation, start, start + len(data), data, verified=True)


def feed(sink: Sink, *batches: Batch) -> None:
    async def run() -> None:
        for one in batches:
            await sink.write(one)
        await sink.notice(Gone(0, 5))
        await sink.close()

    asyncio.run(run())


def python(code: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", code, *map(str, arguments)]


def is_gone(pid: int) -> bool:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        with suppress(FileNotFoundError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                time.sleep(0.01)
                continue
        return True
    return False


# --- once per batch


def test_each_batch_has_a_command_of_its_own_with_its_place_in_the_environment(tmp_path: Path) -> None:
    out = tmp_path / "out"
    names = "$OSS_TAIL_OBJECT|$OSS_TAIL_GENERATION|$OSS_TAIL_START|$OSS_TAIL_END"
    command = f'{{ echo "{names}"; cat; }} >> {shlex.quote(str(out))}'
    feed(CommandPerBatch(command), batch(b"one\n", 7), batch(b"two\n", 0, generation=1))
    head = "oss://logs/a b/$(id).log"
    assert out.read_text() == f"{head}|0|7|11\none\n{head}|1|0|4\ntwo\n"


def test_a_sequence_of_words_is_run_without_a_shell(tmp_path: Path) -> None:
    out = tmp_path / "$HOME; x"
    feed(CommandPerBatch(["tee", "-a", str(out)]), batch(b"", 0), batch(LARGE), batch(b"end", len(LARGE)))
    assert out.read_bytes() == LARGE + b"end"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("exit 3 # a secret", "'exit' exited with status 3"),
        ("kill -9 $$", "'kill' was ended by SIGKILL"),
        ("exec <&-; exit 2", "'exec' exited with status 2"),
    ],
)
def test_a_command_that_fails_did_not_take_the_batch_and_may_be_tried_again(command: str, said: str) -> None:
    with pytest.raises(SinkBusy) as caught:
        feed(CommandPerBatch(command), batch(LARGE))
    assert str(caught.value) == said


def test_a_command_that_fails_twice_gets_the_batch_a_third_time(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = f"cat >> {out}; test $(wc -l < {out}) -ge 3"
    sink = Retrying(CommandPerBatch(command), sleep=lambda _: asyncio.sleep(0))
    asyncio.run(sink.write(batch(b"line\n")))
    assert out.read_bytes() == b"line\n" * 3


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["/nonexistent/command", "secret"], "cannot run '/nonexistent/command': No such file or directory"),
        (["/etc/passwd"], "cannot run '/etc/passwd': Permission denied"),
        ("/nonexistent/command secret", "'/nonexistent/command' exited with status 127: not found"),
        ("/etc/passwd", "'/etc/passwd' exited with status 126: not executable"),
    ],
)
def test_a_command_that_is_not_there_is_one_line_and_not_tried_again(command: list[str] | str, said: str) -> None:
    with pytest.raises(SinkError) as caught:
        feed(CommandPerBatch(command), batch(b"x"))
    assert not caught.value.retriable
    assert str(caught.value) == said


def test_a_name_that_no_environment_can_hold_is_refused() -> None:
    with pytest.raises(SinkError, match="cannot run 'true': embedded null byte"):
        feed(CommandPerBatch("true"), batch(b"x", ref=ObjectRef("logs", "a\0b")))


def test_a_command_that_is_content_with_less_took_the_batch(tmp_path: Path) -> None:
    """Closing its input is no failure when the status is 0: each batch is given once, and the next one comes."""
    out = tmp_path / "out"
    place = f'echo "$OSS_TAIL_START" >> {shlex.quote(str(out))}'
    for start, command in enumerate((f"exec <&-; {place}", f"head -c 1 > /dev/null; {place}")):
        feed(CommandPerBatch(command), batch(LARGE, start), batch(LARGE, start + 2))
    assert out.read_text() == "0\n2\n1\n3\n"


def test_cancelling_ends_the_command_and_what_it_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    command = f"sleep 1000 & echo $! $$ > {pids}.new; mv {pids}.new {pids}; wait"

    async def run() -> None:
        writing = asyncio.create_task(CommandPerBatch(command).write(batch(b"x")))
        while not pids.exists():  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(0.01)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing

    asyncio.run(run())
    assert all(is_gone(int(pid)) for pid in pids.read_text().split())


def test_cancelling_ends_a_command_that_is_only_half_started_and_what_it_started(tmp_path: Path) -> None:
    """It runs since the second turn of the loop, which then has no further one until the command has got far."""
    pids = tmp_path / "pids"
    command = f"sleep 1000 & echo $! $$ > {pids}.new; mv {pids}.new {pids}; wait"

    async def run() -> None:
        writing = asyncio.create_task(CommandPerBatch(command).write(batch(b"x")))
        for _turn in range(2):
            await asyncio.sleep(0)
        deadline = time.monotonic() + 5
        while not pids.exists() and time.monotonic() < deadline:
            pass
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing

    asyncio.run(run())
    assert all(is_gone(int(pid)) for pid in pids.read_text().split())


def test_no_more_commands_run_at_a_time_than_there_are_slots(tmp_path: Path) -> None:
    command = f"test ! -e {tmp_path}/busy && touch {tmp_path}/busy && cat >> {tmp_path}/out; rm {tmp_path}/busy"

    async def run() -> None:
        slots = asyncio.Semaphore(1)
        sinks = [CommandPerBatch(command, slots=slots) for _ in range(8)]
        await asyncio.gather(*(sink.write(batch(b"x")) for sink in sinks))

    asyncio.run(run())
    assert (tmp_path / "out").read_bytes() == b"x" * 8


# --- access keys

KEYS = [
    "OSS_ACCESS_KEY_ID",
    "OSS_ACCESS_KEY_SECRET",
    "OSS_SESSION_TOKEN",
    "ALIBABA_CLOUD_ACCESS_KEY_ID",
    "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
    "ALIBABA_CLOUD_SECURITY_TOKEN",
]


@pytest.mark.parametrize("kind", [CommandPerBatch, CommandStream])
def test_the_access_keys_are_kept_from_a_command_that_is_not_said_to_need_them(
    kind: type[CommandPerBatch | CommandStream], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    for name in (*KEYS, "OSS_REGION"):
        monkeypatch.setenv(name, f"of {name}")
    command = f"cat > /dev/null; env > {shlex.quote(str(out))}"
    feed(kind(command), batch(b"x"))
    environment = out.read_text()
    assert "OSS_REGION=of OSS_REGION\n" in environment
    assert "OSS_TAIL_OBJECT=" in environment
    assert [name for name in KEYS if name in environment] == []
    feed(kind(command, keys=True), batch(b"x"))
    environment = out.read_text()
    assert [name for name in KEYS if f"{name}=of {name}\n" not in environment] == []


# --- one command for all


def test_one_command_gets_all_batches_in_order_and_is_waited_for(tmp_path: Path) -> None:
    code = "import sys, os; data = sys.stdin.buffer.read(); open(sys.argv[1], 'ab').write(data + b'|')"
    feed(CommandStream(python(code, tmp_path / "out")), batch(LARGE), batch(b"end", len(LARGE)))
    assert (tmp_path / "out").read_bytes() == LARGE + b"end|"


def test_the_exit_status_at_the_end_is_reported() -> None:
    with pytest.raises(SinkError, match=r"^'cat' exited with status 9$"):
        feed(CommandStream("cat > /dev/null; exit 9"), batch(b"x"))
    feed(CommandStream("exit 9"))  # nothing to write, so it never ran


def test_a_command_that_is_not_there_is_one_line_for_a_stream_too() -> None:
    with pytest.raises(SinkError, match=r"^cannot run '/nonexistent': No such file or directory$"):
        feed(CommandStream(["/nonexistent"]), batch(b"x"))


def test_a_command_that_ended_is_started_anew_and_gets_the_whole_batch(tmp_path: Path) -> None:
    """What the first one had in its pipe is gone; that is what the sink says of itself."""
    out = tmp_path / "out"
    sink = CommandStream(f"head -c 3 >> {out}; echo >> {out}; exit 4")
    told: list[str] = []

    async def run() -> None:
        watched = Retrying(sink, sleep=lambda _: asyncio.sleep(0), attempts=2)
        with pytest.raises(SinkBusy) as caught:
            await watched.write(batch(LARGE))
        told.append(str(caught.value))

    asyncio.run(run())
    assert out.read_bytes() == (LARGE[:3] + b"\n") * 2
    assert told == ["'head' exited with status 4, and took no more input"]


def test_a_command_that_closes_its_input_is_ended_and_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailer.sinks.exec._LEAVING", 0.05)
    with pytest.raises(SinkBusy, match="closed its standard input, and took no more input"):
        feed(CommandStream(["sh", "-c", "exec sleep 1000 <&-"]), batch(LARGE))


def test_a_stream_that_is_cancelled_in_a_batch_begins_anew(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    sink = CommandStream(f"echo $$ > {pid_file}.new; mv {pid_file}.new {pid_file}; exec sleep 1000")

    async def run() -> None:
        writing = asyncio.create_task(sink.write(batch(LARGE)))
        while not pid_file.exists():  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(0.01)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        await sink.close()

    asyncio.run(run())
    assert is_gone(int(pid_file.read_text()))


def test_a_command_that_ignores_sigterm_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tailer.sinks.exec._GRACE", 0.05)
    pid_file = tmp_path / "pid"
    sink = CommandPerBatch(f"trap '' TERM; echo $$ > {pid_file}.new; mv {pid_file}.new {pid_file}; sleep 1000; sleep 9")

    async def run() -> None:
        writing = asyncio.create_task(sink.write(batch(b"x")))
        while not pid_file.exists():  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(0.01)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing

    asyncio.run(run())
    assert is_gone(int(pid_file.read_text()))
