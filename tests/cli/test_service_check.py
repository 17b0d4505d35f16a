"""`oss-tailer check`: good, or all mistakes; with --online, whether what it names is there. Nothing is written."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tailer.checkpoints import Checkpoints
from tailer.cli.service import main
from tailer.configfile import load_config
from tailer.local import Fault, running
from tailer.local.keys import AccessKey
from tests.cli.conftest import be_anybody
from tests.leaks import SECRET, check, files_below
from tests.many import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cli.conftest import OssTail

GOOD = """\
checkpoint = "state.db"
[server]
listen = false
[sinks.out]
type = "stdout"
[groups.web]
objects = ["oss://bucket/check/*.log"]
sink = "out"
"""


class Check:
    """Runs the command on a text."""

    def __init__(self, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capfd = capfd

    def __call__(self, text: str, *options: str) -> tuple[int, list[str], list[str]]:
        """Exit status, lines of standard output and of standard error; names without the folder."""
        path = self.folder / "config.toml"
        path.write_text(text)
        self._capfd.readouterr()
        status = main(["check", *options, str(path)])
        said = self._capfd.readouterr()
        check([*said], SECRET)
        out, err = ([line.replace(f"{self.folder}/", "") for line in one.splitlines()] for one in said)
        return status, out, err

    def online(self, text: str) -> dict[str, str]:
        """What is found, by what it is about: its verdict and text. The exit status fits."""
        status, (first, *findings), _ = self(text, "--online")
        assert first.startswith("config.toml: good: ")
        found: dict[str, str] = {}
        for line in findings:
            verdict, rest = line[:8].strip(), line[9:]
            subject, _, text = rest.partition(": ")
            found[subject] = " / ".join(filter(None, (found.get(subject), f"{verdict}: {text}")))
        assert status == any("failed: " in text for text in found.values())
        return found


@pytest.fixture
def oss_check(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Check:
    return Check(tmp_path, capfd)


@pytest.fixture
def environment(oss_tail: OssTail, monkeypatch: pytest.MonkeyPatch) -> Iterator[OssTail]:
    """The server's environment, and one object below ``check/``."""
    for name, value in oss_tail.environment.items():
        monkeypatch.setenv(name, value)
    oss_tail.renew("check/a.log", b"some\nlines\n")
    yield oss_tail
    oss_tail.server.store.delete("bucket", "check/a.log")


# --- the file alone


def test_a_good_file(oss_check: Check) -> None:
    assert oss_check(GOOD) == (0, ["config.toml: good: 1 group, 1 sink"], [])


def test_mistakes_are_lines_on_standard_error(oss_check: Check) -> None:
    status, out, err = oss_check(GOOD.replace('sink = "out"', "poll_mn = 3"), "--online")
    assert (status, out) == (2, [])
    assert err == [
        "config.toml:4: warning: sinks.out: no group uses this sink",
        "config.toml:6: groups.web.sink: is missing: the name of one of [sinks.NAME]",
        "config.toml:8: groups.web.poll_mn: unknown key: did you mean poll_min?",
    ]


def test_a_warning_is_told_and_does_not_matter(oss_check: Check) -> None:
    status, out, err = oss_check(f'{GOOD}[sinks.spare]\ntype = "exec"\ncommand = ["cat"]\n')
    assert (status, out) == (0, ["config.toml: good: 1 group, 2 sinks"])
    assert err == ["config.toml:9: warning: sinks.spare: no group uses this sink"]


def test_a_file_that_is_not_there(oss_check: Check, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(oss_check.folder / "none.toml")]) == 2
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", f"{oss_check.folder}/none.toml: it cannot be read: No such file or directory\n")


def test_a_name_that_would_do_harm_to_a_terminal(oss_check: Check) -> None:
    _, _, err = oss_check(f'{GOOD}"\\u001b[2Jx" = 1\n')
    assert err == ['config.toml:9: groups.web."\\u001b[2Jx": unknown key: ' + err[0].partition("unknown key: ")[2]]
    assert all(line.isprintable() for line in err)


def test_a_name_of_the_file_that_cannot_be_shown(oss_check: Check, capfd: pytest.CaptureFixture[str]) -> None:
    path = os.fsencode(oss_check.folder) + b"/\x1b[2J\xff.toml"
    for text, status in ((GOOD, 0), ("x = 1", 2)):
        with open(path, "w") as file:
            file.write(text)
        assert main(["check", os.fsdecode(path)]) == status
        said = capfd.readouterr()
        assert (said.out or said.err).startswith(f"'{oss_check.folder}/'$'\\033''[2J'$'\\377''.toml':")


def test_the_mistakes_of_a_command_that_needs_the_file_are_lines_too(
    oss_check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever command of `oss-tailer` reads it."""

    def load(options: object) -> int:
        load_config(oss_check.folder / "config.toml")
        return 0

    monkeypatch.setattr("tailer.cli.check.run", load)
    status, out, err = oss_check(GOOD.replace("type", "typ").replace("sink", "snk"))
    assert (status, out) == (2, [])
    assert [line.partition(" ")[0] for line in err] == ["config.toml:4:", "config.toml:6:", "config.toml:8:"]


# --- what it names


def test_all_is_good(environment: OssTail, oss_check: Check) -> None:
    before = len(files_below(oss_check.folder))
    with environment.counting() as requests:
        found = oss_check.online(GOOD)
        assert requests() == 3, "a listing, a HEAD, one byte"
    assert found == {
        "groups.web 'oss://bucket/check/*.log'": (
            "ok: may be listed: 1 object on the first page / ok: may be read: 'oss://bucket/check/a.log' has 11 bytes"
        ),
        "sinks.out": "ok: standard output",
        "checkpoint": f"ok: '{oss_check.folder}' may be written",
        "groups.web": "ok: no other process has it",
    }
    assert len(files_below(oss_check.folder)) == before + 1, "the configuration alone"


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("oss://bucket/none/*", "warning: may be listed, but none matches on the first page: none yet?"),
        ("oss://bucket/%Y/%m/%d/", "warning: may be listed, but none matches on the first page: none yet?"),
        ("oss://bucket/none", "warning: 'oss://bucket/none' is not there yet"),
        ("oss://nobody/*", "failed: the bucket is not there: NoSuchBucket: "),
        ("oss://bucket/check/a.log", "ok: may be read: 'oss://bucket/check/a.log' has 11 bytes"),
    ],
)
def test_what_is_said_of_objects(environment: OssTail, oss_check: Check, address: str, text: str) -> None:
    found = oss_check.online(GOOD.replace("oss://bucket/check/*.log", address))
    assert found[f"groups.web '{address}'"].startswith(text)


def test_of_a_million_objects_one_page_is_looked_at(oss_check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    """And that this is not all is said."""
    with serving(1_000_000) as many:
        for name, value in many.environment().items():
            monkeypatch.setenv(name, value)
        found = oss_check.online(GOOD.replace("check/*.log", "**"))["groups.web 'oss://bucket/**'"]
        assert oss_check.online(GOOD.replace("check/*.log", "*.gz"))["groups.web 'oss://bucket/*.gz'"] == (
            "warning: may be listed, but none matches on the first page of several"
        )
    assert found == (
        "ok: may be listed: 1,000 objects on the first page of several / "
        "ok: may be read: 'oss://bucket/0000000.log' has 7 bytes"
    )
    assert many.asked["LIST"] == 2


def test_the_partition_of_now_is_listed(environment: OssTail, oss_check: Check) -> None:
    year = time.strftime("%Y", time.gmtime())
    environment.renew(f"check/{year}/log", b"x")
    environment.renew("check/1999/log", b"x")
    found = oss_check.online(GOOD.replace("check/*.log", "check/%Y/*"))
    assert found["groups.web 'oss://bucket/check/%Y/*'"].endswith(f"check/{year}/log' has 1 byte")
    assert "1 object on" in found["groups.web 'oss://bucket/check/%Y/*'"]


def test_an_object_without_a_crc(environment: OssTail, oss_check: Check) -> None:
    """Nothing could be proven of it, so that the service would refuse it."""
    environment.server.faults.add(Fault("drop-header"))
    try:
        found = [oss_check.online(text) for text in (GOOD, f'{GOOD}integrity = "off"\n')]
    finally:
        environment.server.faults.clear()
    refused, taken = (one["groups.web 'oss://bucket/check/*.log'"].partition(" / ")[2] for one in found)
    assert refused.startswith("failed: 'oss://bucket/check/a.log' has no CRC-64, so that nothing can be proven")
    assert taken.startswith("ok: may be read")


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("OSS_ENDPOINT", "http://127.0.0.1:1", "failed: the endpoint cannot be reached: cannot connect to 127.0.0.1:1"),
        ("OSS_ACCESS_KEY_SECRET", SECRET, "failed: the keys are not good: SignatureDoesNotMatch: "),
        ("OSS_ACCESS_KEY_ID", "nobody", "failed: the keys are not good: InvalidAccessKeyId: "),
    ],
)
def test_what_is_in_the_way_of_every_request(
    environment: OssTail, oss_check: Check, monkeypatch: pytest.MonkeyPatch, name: str, value: str, text: str
) -> None:
    monkeypatch.setenv(name, value)
    assert oss_check.online(GOOD)["groups.web 'oss://bucket/check/*.log'"].startswith(text)


@pytest.mark.parametrize(
    ("allowed", "texts"),
    [
        (["oss:GetObject"], ["failed: it cannot be listed: AccessDenied: "]),
        (["oss:ListObjects"], ["ok: may be listed: 1 object", "failed: it cannot be read: AccessDenied: "]),
    ],
    ids=["read alone", "list alone"],
)
def test_permissions_that_are_missing(
    environment: OssTail, oss_check: Check, monkeypatch: pytest.MonkeyPatch, allowed: list[str], texts: list[str]
) -> None:
    keys = environment.server.authenticator.keys
    monkeypatch.setitem(keys, "few", AccessKey("few", SECRET, allow=allowed))
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", "few")
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", SECRET)
    found = oss_check.online(GOOD)["groups.web 'oss://bucket/check/*.log'"].split(" / ")
    assert [text[: len(start)] for text, start in zip(found, texts, strict=True)] == texts


def test_nothing_says_where_the_service_is(oss_check: Check, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("OSS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert oss_check.online(GOOD)["oss"].startswith("failed: nothing says where the service is: give oss.region or ")


def test_keys_by_reference(environment: OssTail, oss_check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    """They go before those of the environment; one that cannot be had is a failure here."""
    (oss_check.folder / "secret").write_text(f"{os.environ['OSS_ACCESS_KEY_SECRET']}\n")
    monkeypatch.setenv("MY_ID", os.environ["OSS_ACCESS_KEY_ID"])
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", "nobody")
    text = f'{GOOD}[oss]\naccess_key_id = {{ env = "MY_ID" }}\naccess_key_secret = {{ file = "secret" }}\n'
    assert "may be read" in oss_check.online(text)["groups.web 'oss://bucket/check/*.log'"]
    monkeypatch.delenv("MY_ID")
    assert oss_check.online(text)["oss"] == "failed: the environment variable MY_ID is not set"


# --- sinks


def one_sink(lines: str) -> str:
    return GOOD.replace('type = "stdout"', lines)


def test_sinks_that_can_be_had(environment: OssTail, oss_check: Check) -> None:
    (oss_check.folder / "there").mkdir()
    (oss_check.folder / "lines").touch()
    endpoint = environment.server.endpoint
    for lines, text in (
        ('type = "file"\npath = "there"', "ok: 'there' may be written"),
        ('type = "file"\npath = "a/b"', "ok: 'a/b' may be made"),
        ('type = "jsonl"\npath = "lines"', "ok: 'lines' may be written"),
        ('type = "jsonl"\npath = "new/lines"', "ok: 'new/lines' may be made"),
        ('type = "jsonl"', "ok: standard output"),
        ('type = "exec"\ncommand = ["sh", "-c", "x"]', "ok: the command is '/"),
        ('type = "exec"\ncommand = "x | y"', "ok: the command is '/bin/sh'"),
        (f'type = "http"\nurl = "{endpoint}/a?b=c"', f"ok: {endpoint}/a answers"),
    ):
        assert oss_check.online(one_sink(lines))["sinks.out"].replace(f"{oss_check.folder}/", "").startswith(text)
    assert {path.name for path in oss_check.folder.iterdir()} == {"config.toml", "there", "lines"}


def test_sinks_that_cannot_be_had(environment: OssTail, oss_check: Check) -> None:
    (oss_check.folder / "there").touch()
    for lines, text in (
        ('type = "file"\npath = "there/a"', "failed: 'there/a' cannot be had: 'there' is no folder"),
        ('type = "jsonl"\npath = "there/a"', "failed: 'there/a' cannot be had: 'there' is no folder"),
        ('type = "exec"\ncommand = ["no-such-command", "--token=x"]', "failed: the command 'no-such-command' is not"),
        ('type = "http"\nurl = "http://127.0.0.1:1/a?b=c"', "failed: http://127.0.0.1:1/a: cannot connect to"),
        (f'type = "http"\nurl = "{environment.server.endpoint}"\nheaders = {{ Authorization = {{ env = "NOT_SET" }} }}',
         f"failed: {environment.server.endpoint}: the environment variable NOT_SET is not set"),
    ):  # fmt: skip
        assert oss_check.online(one_sink(lines))["sinks.out"].replace(f"{oss_check.folder}/", "").startswith(text)


def test_a_server_that_is_there_and_does_not_work(environment: OssTail, oss_check: Check) -> None:
    with running([]) as server:
        server.faults.add(Fault("status", status=502))
        found = oss_check.online(one_sink(f'type = "http"\nurl = "{server.endpoint}/x"'))
    assert found["sinks.out"] == f"warning: {server.endpoint}/x answers to HEAD with status 502"


def test_what_may_not_be_written(environment: OssTail, tmp_path: Path) -> None:
    """By somebody who is not root."""
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(stat.S_IRUSR | stat.S_IXUSR)
    path = tmp_path / "config.toml"
    text = GOOD.replace("state.db", "closed/state.db").replace('type = "stdout"', 'type = "file"\npath = "closed/a"')
    path.write_text(text)
    command = [sys.executable, "-c", "import sys; from tailer.cli.service import main; sys.exit(main())"]
    done = subprocess.run(
        [*command, "check", "--online", str(path)], capture_output=True, text=True, timeout=60, preexec_fn=be_anybody
    )
    closed.chmod(stat.S_IRWXU)
    assert done.returncode == 1
    assert f"failed   sinks.out: '{closed}/a' cannot be written: no permission for '{closed}'\n" in done.stdout
    assert f"failed   checkpoint: '{closed}/state.db' cannot be written: no permission for '{closed}'\n" in done.stdout


# --- checkpoints and port


@pytest.mark.parametrize(
    ("owner", "text"),
    [
        ("oss-tail x", "failed: is in use by oss-tail x, process "),
        ("oss-tailer run config.toml", "warning: is in use by oss-tailer run config.toml, process "),
    ],
)
def test_a_group_that_somebody_has(environment: OssTail, oss_check: Check, owner: str, text: str) -> None:
    with Checkpoints.open(oss_check.folder / "state.db", "web", owner=owner):
        assert oss_check.online(GOOD)["groups.web"].startswith(text)
    found = oss_check.online(GOOD)
    assert found["groups.web"] == "ok: no other process has it"
    assert found["checkpoint"] == f"ok: '{oss_check.folder}' may be written"


def test_a_checkpoint_file_that_is_none(environment: OssTail, oss_check: Check) -> None:
    (oss_check.folder / "state.db").write_text("something else" * 50)
    assert "is not a checkpoint file of oss-tail: it was left as it is" in oss_check.online(GOOD)["checkpoint"]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_port(environment: OssTail, oss_check: Check, host: str) -> None:
    """Free, taken, and taken by the very service that runs already."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        taken = socket.create_server((host, 0), family=family)
    except OSError:
        pytest.skip("there is no IPv6 here")
    where = f"[{host}]:{taken.getsockname()[1]}" if ":" in host else f"{host}:{taken.getsockname()[1]}"
    text = GOOD.replace("listen = false", f'listen = "{where}"')
    with taken:
        assert oss_check.online(text)["server.listen"] == f"failed: {where}: Address already in use"
        with Checkpoints.open(oss_check.folder / "state.db", "web", owner="oss-tailer run config.toml"):
            assert oss_check.online(text)["server.listen"] == f"warning: {where}: Address already in use"
    assert oss_check.online(text)["server.listen"] == f"ok: {where} is free"


def test_a_port_for_which_packages_are_missing(
    environment: OssTail, oss_check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailer.cli.online.find_spec", lambda name: None)
    assert oss_check.online(GOOD.replace("listen = false", "listen = 0"))["server.listen"] == (
        "failed: needs aiohttp and prometheus_client: pip install 'oss-tail[service]'"
    )
    assert "server.listen" not in oss_check.online(GOOD)
