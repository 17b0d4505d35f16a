"""The fixture as its users have it: in a pytest of its own, whose every warning is an error."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "oss-local.md").read_text(encoding="utf-8")
CONFTEST, EXAMPLE = re.findall(r"^```python\n(.*?)^```$", PAGE[PAGE.index("## In pytest") :], re.DOTALL | re.MULTILINE)[
    :2
]


def run(folder: Path, tests: str, *words: str, conftest: str = CONFTEST, **variables: str) -> tuple[int, str]:
    """Run tests in their own folder; exit status and output."""
    (folder / "conftest.py").write_text(conftest)
    (folder / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers --strict-config -p no:cacheprovider\n")
    (folder / "test_it.py").write_text(tests)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OSS_", "PYTEST_"))}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", *words],
        cwd=folder,
        env={**environment, "PATH": path, **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("words", [[], ["-n", "2"]], ids=["alone", "xdist"])
def test_the_example_of_the_page(tmp_path: Path, words: list[str]) -> None:
    """All of its tests, alone and in two processes at once."""
    status, output = run(tmp_path, EXAMPLE, *words)
    assert status == 0, output
    assert f"{EXAMPLE.count('def test_')} passed" in output


def test_each_test_has_its_own_server_and_leaves_nothing(tmp_path: Path) -> None:
    """Objects, buckets, keys, faults, variables: none is there in the next test, and the server is gone."""
    tests = """
import os, socket
import pytest
from tailer.local import Fault

seen = []

@pytest.mark.parametrize("turn", [1, 2])
def test_first(oss_local, turn):
    assert [info.name for info in oss_local.server.store.buckets()] == [oss_local.bucket]
    assert not oss_local.server.store.list(oss_local.bucket).rows
    assert list(oss_local.server.authenticator.keys) == [oss_local.access_key_id]
    assert not oss_local.faults.report()
    assert os.environ["OSS_ACCESS_KEY_ID"] == oss_local.access_key_id
    assert os.environ["OSS_ACCESS_KEY_SECRET"] == oss_local.access_key_secret
    assert os.environ["OSS_REGION"] == oss_local.region
    assert "OSS_SESSION_TOKEN" not in os.environ
    oss_local.server.store.append(oss_local.bucket, "key", 0, b"x")
    oss_local.server.store.create_bucket("another")
    oss_local.faults.add(Fault("status"))
    oss_local.use(oss_local.add_key(temporary=True))
    assert "OSS_SESSION_TOKEN" in os.environ
    seen.append(oss_local.endpoint)

def test_afterwards():
    assert os.environ["OSS_ENDPOINT"] == "of the user"
    assert os.environ["OSS_SESSION_TOKEN"] == "of the user"
    assert "OSS_REGION" not in os.environ
    for endpoint in seen:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", int(endpoint.rpartition(":")[2])))
"""
    variables = {"OSS_ENDPOINT": "of the user", "OSS_SESSION_TOKEN": "of the user"}
    status, output = run(tmp_path, tests, **variables)
    assert (status, "3 passed" in output) == (0, True), output


def test_nothing_is_loaded_unasked(tmp_path: Path) -> None:
    """Without the line in conftest.py there is no such fixture, and no module of ours."""
    tests = """
import sys

def test_modules():
    assert not [name for name in sys.modules if name.split(".")[0] == "tailer"]

def test_fixture(oss_local):
    pass
"""
    status, output = run(tmp_path, tests, conftest="")
    assert (status, "fixture 'oss_local' not found" in output, "1 passed, 1 error" in output) == (1, True, True), output


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    """An option that is none, a key that cannot expire, a permission that there is not."""
    tests = """
import pytest

@pytest.mark.oss_local(bukets=["a"])
def test_option(oss_local):
    pass

def test_keys(oss_local):
    with pytest.raises(ValueError, match="unknown permission: 'write'"):
        oss_local.add_key("write")
    with pytest.raises(ValueError, match="does not expire"):
        oss_local.expire(oss_local.add_key())
    assert oss_local.add_key("append-only", expires_in=60).token
    assert "secret" not in repr(oss_local.add_key())
"""
    status, output = run(tmp_path, tests)
    assert (status, "1 passed, 1 error" in output) == (1, True), output
    assert "unexpected keyword argument 'bukets'" in output


def test_without_aiohttp(tmp_path: Path) -> None:
    """The test fails with the line that installs it."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "aiohttp.py").write_text("raise ImportError('No module named aiohttp', name='aiohttp')")
    tests = "def test_it(oss_local):\n    pass\n"
    status, output = run(tmp_path, tests, PYTHONPATH=str(tmp_path / "elsewhere"))
    assert status == 1
    assert "oss_local: No module named aiohttp; python3 -m pip install 'oss-tail[local]'" in output
