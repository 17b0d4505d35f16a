"""The public names: which they are, that they are typed, and that asking for the package costs nothing."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tailer

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "library.md").read_text()
API = ROOT / "tests" / "typing" / "api.py"

NAMES = [
    "Appeared", "Appender", "AppenderOptions", "Batch", "BlockingAppender", "Consumer", "ConsumerOptions", "Event",
    "Gone", "IntegrityError", "Lines", "ObjectRef", "Position", "PositionConflict", "Record", "Replaced", "Rewound",
    "Sealed", "ServiceError", "SinkBusy", "TailerError", "Truncated", "Unconfirmed", "UsageError", "__version__",
    "lines", "resolve_service", "tail",
]  # fmt: skip


def test_the_public_names_are_these_and_no_others() -> None:
    assert sorted(tailer.__all__) == NAMES
    assert set(NAMES) <= set(dir(tailer))


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_there_and_says_what_it_is_for(name: str) -> None:
    found = getattr(tailer, name)
    assert found is not None
    if inspect.isclass(found) or inspect.isfunction(found):
        assert inspect.getdoc(found)


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = tailer.nothing  # type: ignore[attr-defined]


def test_importing_the_package_imports_nothing_else() -> None:
    program = "import sys, tailer; print(*sorted(name for name in sys.modules if name.startswith('tailer')))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["tailer"]


def test_the_program_that_is_type_checked_uses_every_public_name() -> None:
    used = {
        node.attr
        for node in ast.walk(ast.parse(API.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "tailer"
    }
    assert used == set(NAMES)


def test_a_program_that_uses_every_public_name_type_checks_strictly() -> None:
    files = [str(API), *map(str, sorted((ROOT / "examples").glob("*.py")))]
    for file in files[:1], files[1:]:
        done = subprocess.run(
            [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", *file],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout


# --- the page about it


def test_the_page_names_tests_that_exist() -> None:
    named = re.findall(r"`(tests/\w+\.py)::(\w+)`", PAGE)
    assert len(named) > 4
    assert [name for file, name in named if f"def {name}(" not in (ROOT / file).read_text()] == []


def test_the_page_names_every_method_of_a_consumer_and_links_to_every_example() -> None:
    methods = [name for name in vars(tailer.Consumer) if not name.startswith("_") and name != "aclose"]
    assert [name for name in methods if not re.search(rf"\b{name}\b", PAGE)] == []
    examples = {f"(../examples/{path.name})" for path in (ROOT / "examples").glob("*.py")}
    assert {example for example in examples if example not in PAGE} == set()


def test_the_programs_on_the_page_are_python_and_use_only_public_names() -> None:
    programs = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
    assert len(programs) == 5
    for program in programs:
        compile(program, "library.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    assert set(re.findall(r"tailer\.(\w+)", PAGE)) <= set(NAMES)
