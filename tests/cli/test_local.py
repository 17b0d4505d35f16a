"""The command ``oss-local`` as a user meets it: its own process, real signals."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

COMMAND = [sys.executable, "-c", "import sys; from tailer.cli.local import main; sys.exit(main())"]


def run(*words: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run([*COMMAND, *words], capture_output=True, text=True, timeout=30, **options)


def start(*words: str) -> tuple[subprocess.Popen[str], dict[str, str]]:
    """Start it; the variables that it printed."""
    process = subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    variables = {}
    for line in process.stdout:
        if not line.startswith("export "):
            break
        name, _, value = shlex.split(line)[1].partition("=")
        variables[name] = value
    return process, variables


def test_prints_variables_and_serves_until_interrupted() -> None:
    """Lines that a shell can evaluate; the log is on stderr; Ctrl-C is 130."""
    process, variables = start("--bucket", "logs", "--public", "--access-key", "me:it's secret", "--region", "cn-x")
    assert sorted(variables) == ["OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET", "OSS_ENDPOINT", "OSS_REGION"]
    assert (variables["OSS_ACCESS_KEY_SECRET"], variables["OSS_REGION"]) == ("it's secret", "cn-x")
    assert b"<Name>logs</Name>" in urllib.request.urlopen(f"{variables['OSS_ENDPOINT']}/logs/").read()
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=10)
    assert (process.returncode, stdout) == (130, "")
    assert stderr == f"oss-local: listening on {variables['OSS_ENDPOINT']}\n"


def test_terminated() -> None:
    """SIGTERM ends it in order."""
    process, _ = start()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    assert process.returncode == 143


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137)])
def test_ends_as_the_command(script: str, status: int) -> None:
    """Its status, or 128 and the signal that killed it."""
    assert run("--", "sh", "-c", script).returncode == status


def test_the_command_finds_the_server_ready() -> None:
    """In its environment, with nothing of ours on stdout, and with no token of another service."""
    script = "import os, urllib.request as u; print(u.urlopen(os.environ['OSS_ENDPOINT'] + '/demo/').status)"
    environment = {**os.environ, "OSS_SESSION_TOKEN": "other", "OSS_REGION": "other"}
    script += "; print(os.environ['OSS_REGION'], 'OSS_SESSION_TOKEN' in os.environ)"
    result = run("--public", "--", sys.executable, "-c", script, env=environment)
    assert (result.returncode, result.stdout, result.stderr) == (0, "200\ncn-local False\n", "")


def test_words_behind_the_dashes_are_the_commands() -> None:
    """Also those that look like ours."""
    assert run("--", "echo", "--port", "x", "--", "y").stdout == "--port x -- y\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_are_forwarded(number: signal.Signals) -> None:
    """The command decides what they mean."""
    script = (
        "import signal, sys, time\n"
        f"signal.signal({int(number)}, lambda *_: sys.exit(33))\n"
        "print('ready', flush=True)\n"
        "time.sleep(20)"
    )
    words = [*COMMAND, "--", sys.executable, "-c", script]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    process.communicate(timeout=10)
    assert process.returncode == 33


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--host", "0.0.0.0"], 2, "0.0.0.0 can be reached from other machines: add --allow-remote to permit it"),
        (["--bucket", "No"], 2, "not a bucket's name: 'No'"),
        (["--"], 2, "no command behind --"),
        (["--", "no-such-command-here"], 127, "no-such-command-here: command not found"),
        (["--", "/"], 126, "/: Permission denied"),
        (["--root", "/dev/null/x"], 1, "/dev/null/x/.oss-local/spool: Not a directory"),
        (["--faults", "/nonexistent.json"], 1, "/nonexistent.json: No such file or directory"),
    ],
)
def test_failures_are_one_line(words: list[str], status: int, message: str) -> None:
    """On stderr, with its status; nothing on stdout."""
    result = run(*words)
    assert (result.returncode, result.stderr, result.stdout) == (status, f"oss-local: {message}\n", "")


@pytest.mark.parametrize(
    "words",
    [
        ["--port", "70000"],
        ["--port", "x"],
        ["--access-key", "x"],
        ["--cname", "x"],
        ["--nonsense"],
        ["word"],
        ["--buck", "x"],
    ],
)
def test_usage_errors(words: list[str]) -> None:
    """Status 2 and a word on what is wrong."""
    result = run(*words)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith("oss-local: error: ")


def test_taken_port() -> None:
    """One line, 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = run("--port", str(taken.getsockname()[1]))
    assert result.returncode == 1
    assert "address already in use" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_root_in_use(tmp_path: Path) -> None:
    """One line, 1; the first one goes on."""
    result = run("--root", str(tmp_path), "--", *COMMAND, "--root", str(tmp_path), "--", "true")
    assert (result.returncode, result.stderr) == (1, f"oss-local: {tmp_path}: another oss-local serves this folder\n")


def test_without_aiohttp(tmp_path: Path) -> None:
    """It says what to install."""
    (tmp_path / "aiohttp.py").write_text("raise ImportError('none', name='aiohttp')")
    result = run("--", "true", env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert result.returncode == 1
    assert result.stderr == "oss-local: aiohttp is not installed: python3 -m pip install 'oss-tail[local]'\n"


def test_root_and_faults(tmp_path: Path) -> None:
    """Objects stay; faults of a file are in force from the start."""
    faults = tmp_path / "faults.json"
    faults.write_text(json.dumps([{"kind": "status", "key": "bad*", "status": 500, "code": "InternalError"}]))
    root = tmp_path / "root"
    (root / "demo").mkdir(parents=True)
    (root / "demo" / "good").write_text("abc")
    (root / "demo" / "bad").write_text("abc")
    process, variables = start("--root", str(root), "--public", "--faults", str(faults), "-v")
    try:
        assert urllib.request.urlopen(f"{variables['OSS_ENDPOINT']}/demo/good").read() == b"abc"
        with pytest.raises(urllib.error.HTTPError, match="500") as refused:
            urllib.request.urlopen(f"{variables['OSS_ENDPOINT']}/demo/bad")
        refused.value.close()
    finally:
        process.send_signal(signal.SIGINT)
        stderr = process.communicate(timeout=10)[1]
    assert "GetObject GET /demo/good 200" in stderr
    assert "GetObject GET /demo/bad 500" in stderr


@pytest.mark.parametrize("text", ["{", "[1]", '{"kind": "melt"}'])
def test_bad_fault_files(tmp_path: Path, text: str) -> None:
    """One line that names the file, 2."""
    path = tmp_path / "faults.json"
    path.write_text(text)
    result = run("--faults", str(path))
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1)
    assert str(path) in result.stderr


def test_secrets_are_not_logged() -> None:
    """Neither a signature in a URL nor a header, however much is logged."""
    process, variables = start("-v", "--access-key", "me:very-secret")
    url = (
        f"{variables['OSS_ENDPOINT']}/demo/x?OSSAccessKeyId=me&Expires={int(time.time()) + 60}&Signature=not-to-be-seen"
    )
    with pytest.raises(urllib.error.HTTPError, match="403") as refused:
        urllib.request.urlopen(url)
    assert b"very-secret" not in refused.value.read()
    refused.value.close()
    process.send_signal(signal.SIGINT)
    stderr = process.communicate(timeout=10)[1]
    assert "/demo/x" in stderr
    assert "not-to-be-seen" not in stderr
    assert "very-secret" not in stderr


def test_version_and_help() -> None:
    """Both are cheap and complete."""
    assert run("--version").stdout.startswith("oss-local ")
    text = run("--help").stdout
    assert all(word in text for word in ("--root", "--allow-remote", "--access-key", "--faults", "Exit status"))
