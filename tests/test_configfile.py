"""The file of `oss-tailer run`: read as it says, all its mistakes told at once with line and key, no secret shown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tailer.configfile import (
    GroupConfig,
    Limits,
    OssConfig,
    Reference,
    ServerConfig,
    ServiceConfig,
    SinkConfig,
    find_problems,
    load_config,
    read_config,
)
from tailer.core.options import Integrity
from tailer.errors import ConfigFileError

if TYPE_CHECKING:
    from collections.abc import Callable

    Write = Callable[[str], Path]

LEAST = """\
checkpoint = "state.db"
[sinks.out]
type = "stdout"
[groups.web]
objects = ["oss://bucket/web/*.log"]
sink = "out"
"""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a text to a file ``config.toml``; its path."""

    def writing(text: str) -> Path:
        path = tmp_path / "config.toml"
        path.write_text(text)
        return path

    return writing


@pytest.fixture
def told(write: Write) -> Callable[[str], list[str]]:
    """What is told of a text, each line without the folder."""

    def telling(text: str) -> list[str]:
        path = write(text)
        return [str(one).removeprefix(f"{path.parent}/") for one in find_problems(path, {})]

    return telling


# --- what is right


def test_the_least_that_is_enough(write: Write) -> None:
    path = write(LEAST)
    group = GroupConfig("web", ("oss://bucket/web/*.log",), "out")
    assert load_config(path) == ServiceConfig(
        groups={"web": group}, sinks={"out": SinkConfig("out", "stdout")}, checkpoint=path.parent / "state.db"
    )
    assert find_problems(path, {}) == []


def test_everything_that_can_be_said(write: Write, tmp_path: Path) -> None:
    path = write("""\
checkpoint = "/var/lib/x/state.db"
drain = 5
stuck = "10m"
buffer_bytes = "64MiB"
log_format = "json"
log_level = "debug"
[oss]
endpoint = "https://oss-cn-hangzhou.aliyuncs.com"
region = "cn-hangzhou"
profile = "p"
sign = true
access_key_id = { env = "ID" }
access_key_secret = { file = "secret" }
session_token = { file = "/run/token" }
[limits]
max_requests_per_second = 50
daily_requests = 1_000_000
price = 0
currency = "USD"
[server]
listen = "[::1]:9000"
hints = false
object_series = 20
[sinks.files]
type = "file"
path = "mirror/"
rotate_size = "1G"
fsync = "5s,64M"
concurrency = 1
[sinks.lines]
type = "jsonl"
path = "lines.jsonl"
[sinks.out]
type = "stdout"
[sinks.run]
type = "exec"
command = ["./load", "--fast"]
[sinks.shell]
type = "exec"
command = "cat | wc"
[sinks.post]
type = "http"
url = "https://example.com/x?y=z"
body = "jsonl"
headers = { Authorization = { env = "AUTH" }, X-Team = "web" }
[groups."a b"]
objects = ["oss://bucket/a", "oss://bucket/logs/%Y/%m/%d/*.log", "oss://bucket/", "https://host/key"]
sink = "files"
replaced = "stop"
integrity = "strict"
poll_min = "500ms"
poll_max = 5.5
list_interval = "1m"
look_back = "12h"
ignore_older = "7d"
keep_checkpoints = "90d"
sequence = true
delimiter = '\\0'
max_record = "64KiB"
max_objects = 5
[groups.raw]
objects = ["oss://bucket/a"]
sink = "post"
start = "end"
delimiter = false
""")
    config = load_config(path, {})
    assert (config.checkpoint, config.drain, config.stuck) == (Path("/var/lib/x/state.db"), 5.0, 600.0)
    assert (config.buffer_bytes, config.log_format, config.log_level) == (64 << 20, "json", "debug")
    assert config.oss == OssConfig(
        endpoint="https://oss-cn-hangzhou.aliyuncs.com",
        region="cn-hangzhou",
        profile="p",
        access_key_id=Reference("env", "ID"),
        access_key_secret=Reference("file", str(tmp_path / "secret")),
        session_token=Reference("file", "/run/token"),
    )
    assert config.limits == Limits(50.0, 1_000_000, None, 0.0, "USD")
    assert config.server == ServerConfig(("::1", 9000), hints=False, object_series=20)
    assert config.sinks == {
        "files": SinkConfig("files", "file", tmp_path / "mirror", 1 << 30, "5s,64M", concurrency=1),
        "lines": SinkConfig("lines", "jsonl", tmp_path / "lines.jsonl"),
        "out": SinkConfig("out", "stdout"),
        "run": SinkConfig("run", "exec", command=("./load", "--fast")),
        "shell": SinkConfig("shell", "exec", command=("/bin/sh", "-c", "cat | wc")),
        "post": SinkConfig(
            "post",
            "http",
            url="https://example.com/x?y=z",
            headers={"Authorization": Reference("env", "AUTH"), "X-Team": "web"},
            body="jsonl",
        ),
    }
    assert config.groups["a b"] == GroupConfig(
        name="a b",
        objects=("oss://bucket/a", "oss://bucket/logs/%Y/%m/%d/*.log", "oss://bucket/", "https://host/key"),
        sink="files",
        replaced="stop",
        integrity=Integrity.STRICT,
        poll_min=0.5,
        poll_max=5.5,
        list_interval=60.0,
        look_back=43200.0,
        ignore_older=604800.0,
        keep_checkpoints=90 * 86400.0,
        sequence=True,
        delimiter=b"\0",
        max_record=65536,
        max_objects=5,
    )
    assert config.groups["raw"] == GroupConfig("raw", ("oss://bucket/a",), "post", start="end", delimiter=None)


def test_equal_files_are_equal_values_and_others_are_not(write: Write) -> None:
    """So that the service can tell by comparing what a reload changes."""
    first = load_config(write(LEAST))
    assert load_config(write(f"# the same\n{LEAST}")) == first
    other = load_config(write(LEAST.replace('sink = "out"', 'sink = "out"\npoll_max = 5')))
    assert other != first
    assert replace(other.groups["web"], poll_max=60.0) == first.groups["web"]
    assert (other.sinks, other.oss, other.limits, other.server) == (first.sinks, first.oss, first.limits, first.server)


def test_relative_paths_begin_at_the_folder_of_the_file(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(LEAST)
    monkeypatch.chdir(tmp_path.parent)
    assert load_config(path.relative_to(tmp_path.parent)).checkpoint == tmp_path / "state.db"
    monkeypatch.chdir(tmp_path)
    assert load_config("config.toml").checkpoint == tmp_path / "state.db"


def test_a_path_may_begin_at_home(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert load_config(write(LEAST.replace("state.db", "~/state.db"))).checkpoint == Path("/home/somebody/state.db")


def test_two_groups_may_name_the_same_object(told: Callable[[str], list[str]]) -> None:
    assert told(f'{LEAST}[groups.other]\nobjects = ["oss://bucket/web/*.log"]\nsink = "out"\n') == []


# --- what is wrong


def test_all_mistakes_at_once_in_the_order_of_their_lines(write: Write) -> None:
    path = write("""\
chekpoint = "state.db"
drain = true
[sinks.archive]
type = "file"
[groups.web]
objects = [
  "oss://bucket/web/*.log",
  "oss://B/x",
]
sink = "archiv"
poll_mn = 1
""")
    with pytest.raises(ConfigFileError) as caught:
        load_config(path)
    assert caught.value.problems == tuple(
        f"{path}:{line}"
        for line in (
            "1: chekpoint: unknown key: did you mean checkpoint?",
            '1: checkpoint: is missing: the file that keeps how far objects were read, as "state.db"',
            '2: drain: is a time in seconds, or as "500ms", "30s", "5m", "2h" or "7d", not true',
            "3: sinks.archive.path: is missing: the folder of the mirrors",
            "8: groups.web.objects[1]: 'B' is not a bucket's name: 3 to 63 of a-z, 0-9 and '-', "
            "a letter or digit at both ends",
            "10: groups.web.sink: there is no [sinks.archiv]: did you mean archive?",
            "11: groups.web.poll_mn: unknown key: did you mean poll_min?",
        )
    )
    assert "\n" not in str(caught.value)


def test_an_empty_file(told: Callable[[str], list[str]]) -> None:
    assert told("") == [
        'config.toml:1: checkpoint: is missing: the file that keeps how far objects were read, as "state.db"',
        "config.toml:1: groups: there is none: write [groups.NAME] with objects and sink",
    ]


def test_a_sink_that_nobody_uses_is_a_warning(write: Write) -> None:
    config, problems = read_config(write(f'{LEAST}[sinks.spare]\ntype = "exec"\ncommand = "cat"\n'), {})
    assert config is not None
    assert [(one.line, one.key, one.warning) for one in problems] == [(7, "sinks.spare", True)]
