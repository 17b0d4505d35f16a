"""Running `oss-tail`: in this process, which is fast, or as the real command, which is the truth."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

import tailer.local
from tailer.cli.tail import run
from tests.renewal import renew

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_COMMAND = [sys.executable, "-c", "import sys; from tailer.cli.tail import main; sys.exit(main())"]
_FOREIGN = ("OSS", "ALIBABA", "HTTP", "http", "NO_PROXY", "no_proxy")


class Finished(NamedTuple):
    """What a command left behind."""

    status: int
    stdout: bytes
    stderr: str


class Running:
    """The real command under way. `wait_for` looks at its output until a deadline instead of sleeping."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self.process = process
        self._folder = folder

    @property
    def stdout(self) -> bytes:
        return (self._folder / "stdout").read_bytes()

    @property
    def stderr(self) -> str:
        return (self._folder / "stderr").read_text()

    def wait_for(self, is_there: Callable[[], bool], seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not is_there():
            if time.monotonic() > deadline:
                pytest.fail(f"not there in {seconds} s; status {self.process.poll()}\n{self.stdout!r}\n{self.stderr}")
            time.sleep(0.01)

    def wait_for_output(self, expected: bytes) -> None:
        """Until standard output is exactly `expected`."""
        self.wait_for(lambda: self.stdout == expected)

    def wait_for_words(self, words: str) -> None:
        """Until `words` stand on standard error."""
        self.wait_for(lambda: words in self.stderr)

    def end(self, seconds: float = 60.0) -> Finished:
        """Wait until it ends by itself."""
        status = self.process.wait(seconds)
        return Finished(status, self.stdout, self.stderr)


class OssTail:
    """Runs `oss-tail` against one server, with no configuration but what is given."""

    program: Sequence[str] = _COMMAND

    def __init__(self, server: tailer.local.LocalServer, home: Path) -> None:
        self.server = server
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)},
            **server.environment(),
            "HOME": str(home),
        }

    def append(self, key: str, data: bytes) -> str:
        """Append to an object of the bucket; its address."""
        found = self.server.store.find("bucket", key)
        self.server.store.append("bucket", key, found.size if found else 0, data)
        return f"oss://bucket/{key}"

    def renew(self, key: str, data: bytes) -> str:
        """Delete the object and append `data` to a new one under its name, while nobody is answered."""
        renew(self.server, "bucket", key, data)
        return f"oss://bucket/{key}"

    @contextmanager
    def counting(self) -> Iterator[Callable[[], int]]:
        """How many requests came to the server since the beginning of the block."""
        before = self.server.faults.injected
        self.server.faults.add(tailer.local.Fault("stall", seconds=0.0))
        try:
            yield lambda: self.server.faults.injected - before
        finally:
            self.server.faults.clear()

    def here(self, arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> Finished:
        """In this process."""
        variables = {**self.environment, **(environment or {})}
        with (
            pytest.MonkeyPatch.context() as patch,
            tempfile.TemporaryFile() as stdout,
            tempfile.TemporaryFile() as stderr,
        ):
            for name in os.environ.keys() - variables.keys():
                patch.delenv(name)
            for name, value in variables.items():
                patch.setenv(name, value)
            status = run(arguments, stdout=stdout.fileno(), stderr=stderr.fileno())
            return Finished(status, _read(stdout.fileno()), _read(stderr.fileno()).decode())

    def command(self, arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> Finished:
        """The real command, to its end."""
        done = subprocess.run(
            [*self.program, *arguments],
            env={**self.environment, **(environment or {})},
            capture_output=True,
            timeout=60,
            check=False,
        )
        return Finished(done.returncode, done.stdout, done.stderr.decode())

    def popen(self, arguments: Sequence[str], **options: object) -> subprocess.Popen[bytes]:
        """The real command, as the caller wants it."""
        return subprocess.Popen([*self.program, *arguments], env=self.environment, **options)  # type: ignore[call-overload,no-any-return]

    @contextmanager
    def following(self, *arguments: str) -> Iterator[Running]:
        """The real command with its output in files; ended at the end of the block."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder)
            with (path / "stdout").open("wb") as stdout, (path / "stderr").open("wb") as stderr:
                process = self.popen(arguments, stdout=stdout, stderr=stderr, stdin=subprocess.DEVNULL)
            try:
                yield Running(process, path)
            finally:
                process.kill()
                process.wait()


def be_anybody() -> None:
    """Give up what lets root read and write everything, before a command is started (capabilities(7); prctl(2))."""
    if os.geteuid() == 0:
        drop_from_bounding_set, override, read_search = 24, 1, 2
        for capability in (override, read_search):
            ctypes.CDLL(None).prctl(drop_from_bounding_set, capability, 0, 0, 0)


def _read(descriptor: int) -> bytes:
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, size, 0) if size else b""


@pytest.fixture(scope="module")
def oss_tail(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OssTail]:
    """`oss-tail` against a server of its own with the bucket ``bucket``."""
    with tailer.local.running(["bucket"]) as server:
        yield OssTail(server, tmp_path_factory.mktemp("home"))
