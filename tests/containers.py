"""Containers for one test, made of what Linux has: what a service of a compose file is promised, and nothing besides.

Each has a root that is read-only and holds the system's programs, the Python of the tests and the mounts of the
service; runs as the service's user, who can become nobody else; and shares one network with the others, in which
their names are known and which leads nowhere. That is enough for programs that are installed here. It needs root.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Self

ROOT = Path(__file__).parent.parent
_FOLDERS = [name for name in ("usr", "bin", "sbin", "lib", "lib32", "lib64") if Path("/", name).exists()]
_PYTHON = {Path(one).resolve() for one in (sys.base_prefix, sys.prefix, ROOT / "tailer")}

# Arguments: the folder for the root, the user, then the command. On standard input: lines "from to mode".
_ENTER = """
set -eu
root=$1 user=$2
shift 2
mount -t tmpfs -o mode=755 tmpfs "$root"
while read -r from to mode; do
  if [ -d "$from" ]; then mkdir -p "$root$to"; else mkdir -p "$root${to%/*}"; : > "$root$to"; fi
  mount --rbind "$from" "$root$to"
  [ "$mode" = rw ] || mount -o remount,ro,bind "$root$to"
done
mount -o remount,ro "$root"
exec setpriv --no-new-privs chroot --userspec="$user" --groups= "$root" "$@" < /dev/null
"""


class Network:
    """A network of its own, for the containers of one test."""

    def __init__(self, folder: Path, hosts: Sequence[str]) -> None:
        """`hosts` are the names that are known in it: all are this machine, each container has ports of its own."""
        self._folder = folder
        self._hosts = hosts
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        if os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "nsenter", "setpriv", "ip"))):
            pytest.skip("making containers needs root and util-linux")
        self._holder = self._stack.enter_context(
            subprocess.Popen(["unshare", "--net", "sh", "-c", "ip link set lo up && echo up && exec sleep infinity"],
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        )  # fmt: skip
        self._stack.callback(self._holder.kill)
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"up\n":
            self._stack.close()
            pytest.skip("the kernel gives this process no network of its own")
        etc = self._folder / "etc"
        etc.mkdir()
        names = " ".join(self._hosts)
        (etc / "hosts").write_text(f"127.0.0.1 localhost {names}\n")
        (etc / "nsswitch.conf").write_text("hosts: files\n")
        (etc / "passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    @contextmanager
    def container(
        self, name: str, command: Sequence[str], *, user: str, environment: Mapping[str, str], mounts: Mapping[str, str]
    ) -> Iterator[Container]:
        """Run `command`, for the first time or again; `mounts` are ``/inside`` to ``/outside:ro``, or ``:rw``."""
        root, log = self._folder / f"root-{name}", self._folder / f"{name}.log"
        root.mkdir(exist_ok=True)
        for target in (one.rpartition(":")[0] for one in mounts.values()):
            assert Path(target).exists()
        table = {f"/{one}": f"/{one}:ro" for one in _FOLDERS} | {str(one): f"{one}:ro" for one in _PYTHON}
        table |= {"/dev": "/dev:rw", "/proc": "/proc:rw"}
        table |= {f"/etc/{path.name}": f"{path}:ro" for path in (self._folder / "etc").iterdir()} | dict(mounts)
        lines = "".join("{1} {0} {2}\n".format(to, *one.rsplit(":", 1)) for to, one in sorted(table.items()))
        with log.open("ab") as output:
            process = subprocess.Popen(
                ["nsenter", f"--net=/proc/{self._holder.pid}/ns/net", "unshare", "--mount", "--propagation", "private",
                 "sh", "-c", _ENTER, "sh", str(root), user, *_with(environment), *command],
                stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        container = Container(name, process, log, user, environment)
        try:
            assert process.stdin is not None
            with process.stdin as stdin:
                stdin.write(lines.encode())
            yield container
        finally:
            container.kill()


def _with(environment: Mapping[str, str]) -> list[str]:
    """What runs a command in that environment alone."""
    return ["/usr/bin/env", "-i", *(f"{name}={value}" for name, value in environment.items())]


class Container:
    """One that runs."""

    def __init__(
        self, name: str, process: subprocess.Popen[bytes], log: Path, user: str, environment: Mapping[str, str]
    ) -> None:
        self.name = name
        self._process = process
        self._log = log
        self._user = user
        self._environment = environment

    @property
    def log(self) -> str:
        """What it wrote so far."""
        return self._log.read_text()

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run something else in it, to its end."""
        user, _, group = self._user.partition(":")
        return subprocess.run(
            ["nsenter", f"--target={self._process.pid}", "--mount", "--net", "--root", f"--setuid={user}",
             f"--setgid={group}", *_with(self._environment), *command],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    def stop(self, seconds: float = 30.0) -> int:
        """Ask it to end, as an engine does; its exit status."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(seconds)

    def kill(self) -> None:
        """End it and whatever it started."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        finally:
            self._process.wait()
