"""The house: which module may know which, and how long a function may be.

A module imports from its own room and from floors below; rooms of one floor never see each other. An import
counts wherever it stands: at the top, inside a function, or for type checkers only.
"""

from __future__ import annotations

import ast
import re
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "tailer"

FLOORS = [
    {"errors", "version"},
    {"core"},
    {"oss"},
    {"follow", "append", "status", "logs", "systemd", "filechange"},
    {"checkpoints", "sinks", "metrics", "verify", "watch", "feed"},
    {"discovery", "config"},
    {"configfile"},
    {"consumer", "appender"},
    {"loops", "outlets"},
    {"fleet"},
    {"service", "canary"},
    {"web"},
    {"cli"},
    {"__init__", "__main__"},
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

# Stricter than their floor.
ONLY = {
    "local": {"core.crc64"},  # so that a mistake of the client cannot hide in the server
    "spark": {"core", "oss", "errors"},
    "follow": {"core", "errors"},  # it sees an ObjectReader, never the wire
}

# What is heavy, or does I/O, has one place.
PLACE = {
    "httpx": {"oss"},
    "pyreqwest": {"oss"},
    "alibabacloud_credentials": {"oss"},
    "aiohttp": {"local", "web"},
    "prometheus_client": {"metrics"},
    "sqlite3": {"checkpoints"},
    "fastcrc": {"core"},
    "crcmod": {"core"},
}

ENGINES = {"fastcrc", "crcmod", "typing_extensions"}
IMPURE = {
    "asyncio", "concurrent", "datetime", "http", "io", "logging", "multiprocessing", "os", "pathlib", "random",
    "secrets", "select", "signal", "socket", "ssl", "subprocess", "tempfile", "threading", "time", "urllib", "uuid",
}  # fmt: skip

LONGEST_FUNCTION = 60
WITHOUT_REASON = r"# noqa(?!: [A-Z]+\d+(, [A-Z]+\d+)* +(- )?\w)"


class Import(NamedTuple):
    """`module` imports `name`, which is `tailer.…` for our own."""

    module: str
    name: str
    line: int

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.name}"


def module_of(path: Path) -> str:
    """``core.tail`` for tailer/core/tail.py; a package is called by its own name."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


@cache
def trees() -> dict[str, ast.Module]:
    return {module_of(path): ast.parse(path.read_bytes(), str(path)) for path in sorted(PACKAGE.rglob("*.py"))}


MODULES = sorted(trees())


def room(module: str) -> str:
    return module.partition(".")[0]


def imports(module: str) -> Iterator[Import]:
    """Every import of a module. ``from tailer.core import crc64`` is one of tailer.core.crc64."""
    for node in ast.walk(trees()[module]):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: a relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}".removeprefix("tailer.")
                yield Import(module, f"tailer.{inner}" if inner in trees() else str(node.module), node.lineno)


def ours(module: str) -> Iterator[tuple[Import, str]]:
    """Those of our own modules, with their names inside the package."""
    for one in imports(module):
        if one.name == "tailer" or one.name.startswith("tailer."):
            yield one, one.name.removeprefix("tailer").removeprefix(".") or "__init__"


def may_import(module: str, other: str) -> bool:
    mine, theirs = room(module), room(other)
    if mine == theirs:
        return True
    if mine in ONLY:
        return bool(ONLY[mine] & {other, theirs})
    if theirs == "local":
        return module == "cli.local"
    return theirs in FLOOR and FLOOR[theirs] < FLOOR[mine]


def test_every_module_has_its_room_in_the_house() -> None:
    homeless = [module for module in MODULES if room(module) not in {*FLOOR, *ONLY}]
    assert not homeless, f"put {homeless} into FLOORS, where the design says they belong"


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_its_room_and_the_floors_below(module: str) -> None:
    assert [str(one) for one, other in ours(module) if not may_import(module, other)] == []


@pytest.mark.parametrize("module", [module for module in MODULES if room(module) == "core"])
def test_the_core_is_pure(module: str) -> None:
    roots = {one.name.partition(".")[0] for one in imports(module)} - {"tailer"}
    assert roots <= sys.stdlib_module_names | ENGINES
    assert not roots & IMPURE
    assert not [n for n in ast.walk(trees()[module]) if isinstance(n, ast.AsyncFunctionDef | ast.Await)]


@pytest.mark.parametrize("module", MODULES)
def test_heavy_parts_have_one_place(module: str) -> None:
    astray = [
        str(one) for one in imports(module) if room(module) not in PLACE.get(one.name.partition(".")[0], {room(module)})
    ]
    assert astray == []


def test_no_module_knows_itself_by_a_detour() -> None:
    graph = {module: {other for _, other in ours(module)} & set(MODULES) - {module} for module in MODULES}
    while leaves := {module for module, others in graph.items() if not others}:
        graph = {module: others - leaves for module, others in graph.items() if module not in leaves}
    # What is left are the cycles and what stands upon them.
    assert not graph


@pytest.mark.parametrize("module", MODULES)
def test_a_function_fits_on_a_screen(module: str) -> None:
    lengths = {
        f"{module}.{node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for node in ast.walk(trees()[module])
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: length for name, length in lengths.items() if length > LONGEST_FUNCTION} == {}


@pytest.mark.parametrize("module", MODULES)
def test_what_is_waved_through_says_why(module: str) -> None:
    path = PACKAGE / (module.replace(".", "/") + ".py")
    text = (path if path.exists() else PACKAGE / module.replace(".", "/") / "__init__.py").read_text()
    assert [line.strip() for line in text.splitlines() if re.search(WITHOUT_REASON, line)] == []
    assert not re.search(r"\b(TODO|FIXME|XXX)\b", text)


# --- the rules themselves


@pytest.mark.parametrize(
    ("module", "other", "allowed"),
    [
        ("core.tail", "errors", True),
        ("core.tail", "core.chain", True),
        ("core.tail", "oss.client", False),
        ("core.tail", "follow", False),
        ("errors", "core.position", False),
        ("oss.client", "core.ranges", True),
        ("oss.client", "follow", False),
        ("follow", "oss.client", False),
        ("append", "oss.client", True),
        ("append", "follow", False),
        ("sinks.file", "sinks.names", True),
        ("sinks.file", "metrics", False),
        ("metrics", "checkpoints", False),
        ("consumer", "config", True),
        ("consumer", "discovery", True),
        ("discovery", "config", False),
        ("service", "consumer", True),
        ("cli.tail", "config", True),
        ("cli.tail", "local.server", False),
        ("cli.local", "local.server", True),
        ("local.server", "local.store", True),
        ("local.server", "core.crc64", True),
        ("local.server", "core.ranges", False),
        ("local.server", "errors", False),
        ("core.tail", "__init__", False),
    ],
)
def test_the_rules_say_what_the_design_says(module: str, other: str, *, allowed: bool) -> None:
    assert may_import(module, other) is allowed
