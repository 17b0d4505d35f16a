"""The command ``oss-local`` as a user meets it: its own process, real signals."""

from __future__ import annotations

import contextlib
import io
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
from email.utils import formatdate
from typing import TYPE_CHECKING
from unittest import mock

import pytest

from tailer.cli.local import _parse, _server, main

if TYPE_CHECKING:
    from pathlib import Path

COMMAND = [sys.executable, "-c", "import sys; from tailer.cli.local import main; sys.exit(main())"]


def run(*words: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run([*COMMAND, *words], capture_output=True, text=True, timeout=30, **options)


def run_here(*words: str) -> tuple[int, str, str]:
    """Run what ends before anything starts; without a process of its own that costs nothing."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        status = main(words)
    return status, stdout.getvalue(), stderr.getvalue()


def environ(**variables: str) -> contextlib.AbstractContextManager[object]:
    """These variables as well."""
    return mock.patch.dict(os.environ, variables)


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
        (["--root", "/dev/null/x"], 2, "/dev/null/x/.oss-local/spool: Not a directory"),
        (["--faults", "/nonexistent.json"], 2, "/nonexistent.json: No such file or directory"),
        (["--keys", "/nonexistent.json"], 2, "/nonexistent.json: No such file or directory"),
        (["--keys", "/"], 2, "/: Is a directory"),
        (["--port", "70000"], 2, "argument --port: not a port: '70000'"),
        (["--port", "x"], 2, "argument --port: not a port: 'x'"),
        (["--seed", "x"], 2, "argument --seed: invalid int value: 'x'"),
        (["--access-key", "the-secret"], 2, "argument --access-key: expected ID:SECRET"),
        (["--access-key", "a:b", "--access-key", "a:c"], 2, "there must be an access key, and each id only once"),
        (["--cname", "x"], 2, "argument --cname: expected NAME=VALUE: 'x'"),
        (["--allow", "local"], 2, "argument --allow: expected NAME=VALUE: 'local'"),
        (["--allow", "other=full"], 2, "--allow: there is no access key 'other'"),
        (
            ["--allow", "local=read-only,oss:GetObjcet"],
            2,
            "unknown permission: 'oss:GetObjcet' (there are full, read-only, append-only and actions of RAM)",
        ),
        (["--bucket"], 2, "argument --bucket: expected one argument"),
        (["--nonsense=x"], 2, "unknown word: '--nonsense'; oss-local --help lists all"),
        (["--acces-key", "me:secret"], 2, "unknown word: '--acces-key'; oss-local --help lists all"),
        (["word"], 2, "unknown word: 'word'; oss-local --help lists all"),
        (["--buck", "x"], 2, "unknown word: '--buck'; oss-local --help lists all"),
    ],
)
def test_failures_are_one_line(words: list[str], status: int, message: str) -> None:
    """On stderr, with its status; nothing on stdout, and no secret of a word that was misspelled."""
    assert run_here(*words) == (status, "", f"oss-local: {message}\n")


@pytest.mark.skipif(not os.path.isdir("/sys/kernel"), reason="a folder where nobody may write is needed")
def test_a_root_that_cannot_be_written() -> None:
    """One line; the words depend on who asks."""
    status, stdout, stderr = run_here("--root", "/sys/kernel/store")
    assert (status, stdout) == (2, "")
    assert stderr in [
        f"oss-local: /sys/kernel/store: {why}\n" for why in ("Operation not permitted", "Permission denied")
    ]


def test_taken_port() -> None:
    """One line that names it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run_here("--port", str(port))
    assert result == (2, "", f"oss-local: cannot listen on 127.0.0.1:{port}: Address already in use\n")


def test_an_address_that_is_not_here() -> None:
    """One line that names it."""
    result = run_here("--host", "192.0.2.1", "--allow-remote")
    assert result == (2, "", "oss-local: cannot listen on 192.0.2.1:0: Cannot assign requested address\n")


KEYS = [
    {"id": "writer", "secret": "first-secret", "allow": ["append-only"]},
    {"id": "STS.guest", "secret": "second-secret", "token": "its-token", "expires_in": 0},
]


@pytest.mark.parametrize("way", ["file", "environment"])
def test_keys_that_ps_does_not_show(tmp_path: Path, way: str) -> None:
    """The first one is in the variables; each may do what is said of it, and a temporary one is over in its time."""
    words, environment = [], dict(os.environ)
    if way == "file":
        (tmp_path / "keys.json").write_text(json.dumps(KEYS))
        words = ["--keys", str(tmp_path / "keys.json")]
    else:
        environment["OSS_LOCAL_KEYS"] = json.dumps(KEYS)
    script = """if True:
        import os
        import alibabacloud_oss_v2 as oss

        def code(*key):
            config = oss.config.load_default()
            config.credentials_provider = oss.credentials.StaticCredentialsProvider(*key)
            config.endpoint, config.region = os.environ["OSS_ENDPOINT"], os.environ["OSS_REGION"]
            try:
                oss.Client(config).append_object(oss.AppendObjectRequest("demo", "log", position=0, body=b""))
                oss.Client(config).head_object(oss.HeadObjectRequest("demo", "log"))
            except oss.exceptions.OperationError as error:
                return error.unwrap().code, error.unwrap().ec

        print(code(os.environ["OSS_ACCESS_KEY_ID"], os.environ["OSS_ACCESS_KEY_SECRET"]))
        print(code("STS.guest", "second-secret", "its-token"))
        print(code("local", "local-secret"))
    """
    result = run(*words, "--", sys.executable, "-c", script, env=environment)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "('AccessDenied', '0003-00000001')",
        "('SecurityTokenExpired', '0002-00000007')",
        "('InvalidAccessKeyId', '0002-00000902')",
    ]


def test_words_for_keys_join(tmp_path: Path) -> None:
    """Keys of both options count, --allow is about any of them, and the environment then counts for nothing."""
    (tmp_path / "keys.json").write_text(json.dumps({"id": "second", "secret": "s"}))
    words = ["--access-key", "first:s", "--keys", str(tmp_path / "keys.json")]
    allow = ["--allow", "second=append-only", "--allow", "second=oss:GetObject,oss:List*"]
    with environ(OSS_LOCAL_KEYS="not even JSON"):
        server = _server(_parse([*words, *allow]))
    found = {key.id: list(key.allow) for key in server.authenticator.keys.values()}
    assert found == {"first": ["full"], "second": ["append-only", "oss:GetObject", "oss:List*"]}
    assert server.environment()["OSS_ACCESS_KEY_ID"] == "first"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expecting value: line 1 column 1 (char 0)"),
        ("[]", "expected a list of objects"),
        ('"secret"', "expected a list of objects"),
        ('[{"id": "a", "secret": "my-secret"}, "my-secret"]', "expected a list of objects"),
        ('{"id": "a"}', "key 1: id or secret is missing"),
        ('{"id": "a", "secret": ""}', "key 1: an access key has an id and a secret"),
        ('{"id": "a", "secret": 1}', "key 1: secret must be a string"),
        (
            '{"id": "a", "secrte": "my-secret"}',
            "key 1: no such field: 'secrte'; there are id, secret, token, expires, expires_in, allow",
        ),
        (
            '[{"id": "a", "secret": "my-secret"}, {"id": "b", "secret": "my-secret", "allow": ["read"]}]',
            "key 2: unknown permission: 'read' (there are full, read-only, append-only and actions of RAM)",
        ),
        ('{"id": "a", "secret": "my-secret", "allow": "full"}', "key 1: allow must be a list of strings"),
        ('{"id": "a", "secret": "my-secret", "expires_in": 5}', "key 1: an access key without a token does not expire"),
        ('{"id": "a", "secret": "my-secret", "expires": true}', "key 1: expires must be a number of seconds"),
        ('{"id": "a", "secret": "my-secret", "expires": NaN}', "key 1: expires must be a number of seconds"),
        (
            '{"id": "a", "secret": "my-secret", "token": "t", "expires": 1, "expires_in": 1}',
            "key 1: expires and expires_in are one or the other",
        ),
    ],
)
def test_bad_keys(tmp_path: Path, text: str, message: str) -> None:
    """One line that names the file and the key, and shows no secret."""
    path = tmp_path / "keys.json"
    path.write_text(text)
    assert run_here("--keys", str(path)) == (2, "", f"oss-local: {path}: {message}\n")
    assert "my-secret" not in message


def test_bad_keys_in_the_environment() -> None:
    """It is named as the file would be."""
    with environ(OSS_LOCAL_KEYS="{"):
        status, _, stderr = run_here()
    assert (status, stderr.startswith("oss-local: OSS_LOCAL_KEYS: ")) == (2, True)


def test_keys_that_are_no_text(tmp_path: Path) -> None:
    """One line."""
    path = tmp_path / "keys.json"
    path.write_bytes(b"\xff\xfe")
    assert run_here("--keys", str(path)) == (2, "", f"oss-local: {path}: not UTF-8\n")


def test_root_in_use(tmp_path: Path) -> None:
    """One line; the first one goes on."""
    result = run("--root", str(tmp_path), "--", *COMMAND, "--root", str(tmp_path), "--", "true")
    assert (result.returncode, result.stderr) == (2, f"oss-local: {tmp_path}: another oss-local serves this folder\n")


def test_without_aiohttp(tmp_path: Path) -> None:
    """It says what to install."""
    (tmp_path / "aiohttp.py").write_text("raise ImportError('none', name='aiohttp')")
    result = run("--", "true", env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert result.returncode == 2
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
    status, _, stderr = run_here("--faults", str(path))
    assert (status, len(stderr.splitlines())) == (2, 1)
    assert stderr.startswith(f"oss-local: {path}: ")


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


def test_secrets_of_a_file_are_seen_nowhere(tmp_path: Path) -> None:
    """Not in the command line, not in the log, not in what refuses a request; the first one's is printed to be used."""
    (tmp_path / "keys.json").write_text(json.dumps([*KEYS, {"id": "last", "secret": "third-secret"}]))
    process, variables = start("-v", "--keys", str(tmp_path / "keys.json"))
    assert variables["OSS_ACCESS_KEY_SECRET"] == "first-secret"
    seen = " ".join(str(word) for word in process.args).encode()
    for authorization in ("OSS last:x", "OSS STS.guest:x", "OSS writer:x"):
        headers = {"Authorization": authorization, "Date": formatdate(usegmt=True), "x-oss-security-token": "x"}
        with pytest.raises(urllib.error.HTTPError, match="403") as refused:
            urllib.request.urlopen(urllib.request.Request(f"{variables['OSS_ENDPOINT']}/demo/x", headers=headers))
        seen += refused.value.read()
        refused.value.close()
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=10)
    seen += (stdout + stderr).encode()
    assert b"GetObject GET /demo/x 403" in seen
    assert [
        secret for secret in (b"first-secret", b"second-secret", b"third-secret", b"its-token") if secret in seen
    ] == []


def test_version_and_help() -> None:
    """Both are cheap and complete."""
    assert run("--version").stdout.startswith("oss-local ")
    text = run("--help").stdout
    assert all(word in text for word in ("--root", "--keys", "--allow-remote", "OSS_LOCAL_KEYS", "Exit status"))
