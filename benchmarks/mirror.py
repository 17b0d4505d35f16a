"""Mirrors: into a file beside `curl -o`, and how fast one that stands there already is checked again."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from benchmarks import servers
from benchmarks.catchup import GIB, MIB, environment, row, table
from benchmarks.measure import in_turn, ratio

# The CRC-64 of a file and nothing else, and a loop that only reads it.
CHECK = (
    "import asyncio, sys; from tailer.sinks.file import FileMirror; asyncio.run(FileMirror.open(sys.argv[1]).resume())"
)
READ = "import os, sys; f = os.open(sys.argv[1], os.O_RDONLY); b = bytearray(1 << 20)\nwhile os.readv(f, [b]): pass"


def into_files() -> str:
    """Both in memory and on a disk, since they measure different things."""
    parts = [
        "## Mirrors\n\n"
        "Memory is not touched before these runs (see the catch-up), so on a disk the order differs from run to run."
    ]
    for where in folders():
        with tempfile.TemporaryDirectory(dir=where) as folder:
            parts += [f"In `{where}` ({kind(where)}):", beside_curl(folder), again(folder)]
    return "\n\n".join(parts)


def folders() -> list[str]:
    return [*(["/dev/shm"] if os.path.isdir("/dev/shm") else []), tempfile.gettempdir()]


def kind(folder: str) -> str:
    """The type of the file system there (proc(5), mounts): of the longest mount point above it."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    above = [(point, type_) for point, type_ in mounts if Path(folder).is_relative_to(point)]
    return max(above, key=lambda mount: len(mount[0]))[1]


def beside_curl(folder: str, size: int = GIB, runs: int = 5) -> str:
    """A new file of 1 GiB, with and without forcing it to the disk."""
    with servers.static_object(size) as port:
        url, ref = f"http://127.0.0.1:{port}/bench/object", "oss://bench/object"
        commands = {
            "oss-tail -o": f"oss-tail -o {folder}/copy {ref}",
            "curl -o": f"curl -s -o {folder}/copy {url}",
            "oss-tail -o --fsync=close": f"oss-tail --fsync=close -o {folder}/copy {ref}",
            "curl -o, then sync": f"curl -s -o {folder}/copy {url} && sync {folder}/copy",
        }
        results = in_turn(commands, runs, environment(port), before=f"rm -f {folder}/copy*")
    first, second = (dict(list(results.items())[i : i + 2]) for i in (0, 2))
    return table([row("a file", size, pair, name) for pair in (first, second) for name in pair])


def again(folder: str, size: int = 5 * GIB, runs: int = 3) -> str:
    """A mirror of up to 5 GiB (a quarter of the room there) is read and its CRC-64 computed, before any request."""
    size = min(size, shutil.disk_usage(folder).free // 4)
    path = Path(folder, "copy")
    block = os.urandom(64 * MIB)
    with path.open("wb") as file:
        for _ in range(size // len(block)):
            file.write(block)
    size = path.stat().st_size
    commands = {"FileMirror.resume": f"python -c '{CHECK}' {path}", "a loop that reads": f"python -c '{READ}' {path}"}
    rows = []
    for cache, before in (("in the cache", "true"), ("dropped from it", f"sync {path}; {drop(path)}")):
        results = in_turn(commands, runs, before=before)
        ours, plain = results.values()
        rates = (f"{size / result.wall / 1e9:.2f} GB/s" for result in (ours, plain))
        rows.append(" | ".join([f"{size // MIB:,} MiB, {cache}", *rates, f"{ratio(ours, plain):.2f} x"]))
    head = "| a mirror that stands there | checked by | only read | checked is faster by |\n| --- | --- | --- | --- |\n"
    return head + "\n".join(f"| {line} |" for line in rows)


def drop(path: Path) -> str:
    """Out of the page cache, as far as the file system does that."""
    return f"dd of={path} oflag=nocache conv=notrunc,fdatasync count=0 status=none"
