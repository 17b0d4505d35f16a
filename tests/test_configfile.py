"""The file of `oss-tailer run`: read as it says, all its mistakes told at once with line and key, no secret shown."""

from __future__ import annotations

import asyncio
import os
import re
from dataclasses import MISSING, Field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailer.configfile import (
    GroupConfig,
    Limits,
    OssConfig,
    Problem,
    Reference,
    ServerConfig,
    ServiceConfig,
    SinkConfig,
    find_problems,
    load_config,
    read_config,
    service_settings,
)
from tailer.core.options import Integrity
from tailer.errors import ConfigError, ConfigFileError
from tailer.oss.credentials import Anonymous, ChainCredentials, Credentials
from tests.leaks import SECRET, check, shown

if TYPE_CHECKING:
    from collections.abc import Callable

    Write = Callable[[str], Path]

ROOT = Path(__file__).parents[1]
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


def test_a_sink_that_is_misspelt_is_told_once(told: Callable[[str], list[str]]) -> None:
    """A mistake in a sink is not one of the group that uses it, too."""
    assert told(LEAST.replace('"stdout"', '"stdot"')) == [
        'config.toml:3: sinks.out.type: "stdot" is no type of sink: one of file, jsonl, stdout, exec, http'
    ]


GROUP = "[groups.g]\nobjects = ['oss://bucket/x']\nsink = 'out'\n"
SINK = "[sinks.other]\n"


@pytest.mark.parametrize(
    ("lines", "key", "words"),
    [
        ("drain = -1", "drain", "is a time from 0 s to 100 years, not -1"),
        ("drain = nan", "drain", "is a time in seconds"),
        ("drain = inf", "drain", "is a time in seconds"),
        ("drain = '5 minutes'", "drain", 'not "5 minutes"'),
        ("drain = 1979-05-27", "drain", "not date"),
        ("drain = [1]", "drain", "not [1]"),
        ("drain = {a = 1}", "drain", "not a table"),
        ("drain = '1000000d'", "drain", "to 100 years"),
        ("stuck = 0.5", "stuck", "from 1 s"),
        ("buffer_bytes = '8 MB'", "buffer_bytes", 'is a number of bytes, or a size as "64KiB"'),
        ("buffer_bytes = 1.5", "buffer_bytes", "is a number of bytes"),
        ("buffer_bytes = true", "buffer_bytes", "is a number of bytes"),
        ("buffer_bytes = 1", "buffer_bytes", "is a size of at least 8388608 bytes"),
        ("buffer_bytes = 99999999999999999999", "buffer_bytes", "is a size of at least"),
        ("log_format = 'jsn'", "log_format", 'is one of logfmt, json, not "jsn": did you mean json?'),
        ("log_level = 1", "log_level", "is one of debug, info, warning, error, not 1"),
        ("'log level' = 1", '"log level"', "unknown key: did you mean log_level?"),
        ("x = 1", "x", "unknown key: buffer_bytes, checkpoint, drain, groups, "),
        ("oss = 1", "oss", "is a table: write [oss]"),
        ("oss = [{}]", "oss", "is a table: write [oss]"),
        ("[oss]\nendpoint = 'ftp://host'", "oss.endpoint", "is neither http nor https"),
        ("[oss]\nendpoint = 3", "oss.endpoint", "is a text, not 3"),
        ("[oss]\nregion = 'oss-cn-x'", "oss.region", "the region is cn-x"),
        ("[oss]\nprofile = ' '", "oss.profile", 'is a text, not " "'),
        ("[oss]\nsign = 'no'", "oss.sign", 'is true or false, not "no"'),
        ("[oss]\naccess_key_id = {env = 'A'}", "oss.access_key_id", "is given without access_key_secret"),
        ("[oss]\naccess_key_secret = {env = 'A'}", "oss.access_key_secret", "is given without access_key_id"),
        ("[oss]\nsession_token = {env = 'A'}", "oss.session_token", "is given without access_key_id"),
        ("[limits]\nmax_requests_per_second = 0", "limits.max_requests_per_second", "greater than 0, not 0"),
        ("[limits]\ndaily_requests = 1.5", "limits.daily_requests", "is a whole number of at least 1, not 1.5"),
        ("[limits]\ndaily_cost = '5'", "limits.daily_cost", 'is a number greater than 0, not "5"'),
        ("[limits]\nprice = -0.1", "limits.price", "is a number of at least 0, not -0.1"),
        ("[limits]\ndaily_cost = 1\nprice = 0", "limits.price", "is 0, so that daily_cost limits nothing"),
        ("[server]\nlisten = true", "server.listen", "is a port, "),
        ("[server]\nlisten = 65536", "server.listen", "is a port, "),
        ("[server]\nlisten = 'x:y'", "server.listen", 'not "x:y"'),
        ("[server]\nhints = 1", "server.hints", "is true or false, not 1"),
        ("[server]\nobject_series = 1001", "server.object_series", "is a whole number from 0 to 1000, not 1001"),
        ("[sinks]\nother = 'file'", "sinks.other", "is a table: write [sinks.other]"),
        ("[sinks.other]", "sinks.other.type", "is missing: one of file, "),
        ("[sinks.other]\ntype = 1", "sinks.other.type", "1 is no type of sink"),
        ("[sinks.other]\ntype = 'exec'", "sinks.other.command", "is missing"),
        ("[sinks.other]\ntype = 'http'", "sinks.other.url", "is missing"),
        ("[sinks.other]\ntype = 'file'\npath = 'a'\nurl = 'x'", "sinks.other.url", "for sinks of type http, not"),
        ("[sinks.other]\ntype = 'exec'\ncommand = 'x'\npath = 'x'", "sinks.other.path", "of type file or jsonl"),
        ("[sinks.other]\ntype = 'exec'\ncommand = []", "sinks.other.command", "is a list of words"),
        ("[sinks.other]\ntype = 'exec'\ncommand = ['a', 1]", "sinks.other.command", "is a list of words"),
        ("[sinks.other]\ntype = 'exec'\ncommand = ['']", "sinks.other.command", "is a list of words"),
        ("[sinks.other]\ntype = 'exec'\ncommand = 'x'\nconcurrency = 0", "sinks.other.concurrency", "from 1 to 1000"),
        ("[sinks.other]\ntype = 'file'\npath = 'config.toml'", "sinks.other.path", "is no folder"),
        ("[sinks.other]\ntype = 'file'\npath = \"a\\u0000\"", "sinks.other.path", "a path has no NUL in it"),
        ("[sinks.other]\ntype = 'file'\npath = 'a'\nfsync = '5m'", "sinks.other.fsync", "is never, close, batch, "),
        ("[sinks.other]\ntype = 'file'\npath = 'a'\nrotate_size = 0", "sinks.other.rotate_size", "at least 1 bytes"),
        ("[sinks.other]\ntype = 'jsonl'\npath = '.'", "sinks.other.path", "is a folder, where a file is wanted"),
        ("[sinks.other]\ntype = 'http'\nurl = 'host/x'", "sinks.other.url", "begins with http:// or https://"),
        ("[sinks.other]\ntype = 'http'\nurl = 'http://h/'\nheaders = 1", "sinks.other.headers", "is a table"),
        ("[sinks.other]\ntype = 'http'\nurl = 'http://h/'\nheaders = {'a b' = 'x'}",
         'sinks.other.headers."a b"', "this is no name of a header"),
        ("[sinks.other]\ntype = 'http'\nurl = 'http://h/'\nheaders = {a = \"x\\r\\n\"}",
         "sinks.other.headers.a", "a header's value is printable ASCII"),
        ("[sinks.other]\ntype = 'http'\nurl = 'http://h/'\nheaders = {content-type = 'x'}",
         "sinks.other.headers.content-type", "is set by the sink itself"),
        ("[sinks.other]\ntype = 'http'\nurl = 'http://h/'\nbody = 'x'", "sinks.other.body", "is one of bytes, jsonl"),
        ("[sinks.other]\ntype = 'stdout'", "sinks.other", "standard output is taken by [sinks.out]"),
        ("[sinks.other]\ntype = 'jsonl'", "sinks.other", "standard output is taken by [sinks.out]"),
        ("[sinks.other]\ntype = 'jsonl'\npath = 'state.db'", "sinks.other", "this is where checkpoints are"),
        ("[groups]\ng = 1", "groups.g", "is a table: write [groups.g]"),
        ("[groups.g]\nsink = 'out'", "groups.g.objects", "is missing"),
        ("[groups.g]\nobjects = ['oss://bucket/x']", "groups.g.sink", "is missing"),
        ("[groups.g]\nobjects = []\nsink = 'out'", "groups.g.objects", "is a list of at least one"),
        ("[groups.g]\nobjects = 'oss://bucket/x'\nsink = 'out'", "groups.g.objects", "is a list of at least one"),
        ("[groups.g]\nobjects = ['bucket/x']\nsink = 'out'", "groups.g.objects[0]", "is not an address"),
        ("[groups.g]\nobjects = ['oss://bucket']\nsink = 'out'", "groups.g.objects[0]", "names a bucket and no object"),
        ("[groups.g]\nobjects = ['oss://bucket/a/../b']\nsink = 'out'", "groups.g.objects[0]", "cannot be asked for"),
        ("[groups.g]\nobjects = ['oss://bucket/x']\nsink = 'none'", "groups.g.sink", "there is no [sinks.none]"),
        ("[groups.g]\nobjects = ['oss://bucket/x']\nsink = 1", "groups.g.sink", "is a text, not 1"),
        ('[groups.""]\nobjects = ["oss://bucket/x"]\nsink = "out"', 'groups.""', "a name has 1 to 200 bytes"),
        (f"{GROUP}poll_min = 5\npoll_max = 4", "groups.g.poll_min", "poll_min (5 s) is more than poll_max (4 s)"),
        (f"{GROUP}poll_min = 61", "groups.g.poll_min", "poll_min (61 s) is more than poll_max (60 s)"),
        (f"{GROUP}poll_max = 0.5", "groups.g.poll_max", "poll_min (1 s) is more than poll_max (0.5 s)"),
        (f"{GROUP}poll_min = 0", "groups.g.poll_min", "from 0.01 s"),
        (f"{GROUP}list_interval = 0.01", "groups.g.list_interval", "from 0.1 s"),
        ("[groups.g]\nobjects = ['oss://bucket/%H/']\nsink = 'out'\nlook_back = '1000d'",
         "groups.g.look_back", "24000 partitions"),
        (f"{GROUP}start = 5", "groups.g.start", "is one of start, end, not 5"),
        (f"{GROUP}replaced = 'x'", "groups.g.replaced", "is one of restart, stop"),
        (f"{GROUP}integrity = 'none'", "groups.g.integrity", "is one of strict, chain, full, off"),
        (f"{GROUP}delimiter = \"\\r\\n\"", "groups.g.delimiter", "is one byte"),
        (f"{GROUP}delimiter = ''", "groups.g.delimiter", "is one byte"),
        (f"{GROUP}delimiter = 'é'", "groups.g.delimiter", "is one byte"),
        (f"{GROUP}delimiter = true", "groups.g.delimiter", "is one byte"),
        (f"{GROUP}max_record = 0", "groups.g.max_record", "at least 1 bytes"),
        (f"{GROUP}max_objects = 0", "groups.g.max_objects", "is a whole number of at least 1, not 0"),
        (f"{GROUP}sequence = 0", "groups.g.sequence", "is true or false"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_line_and_key_and_what_is_allowed(
    write: Write, lines: str, key: str, words: str
) -> None:
    """One mistake and no other, on the line where the last part of its key stands."""
    at_top = not lines.startswith("[")
    path = write(f"{lines}\n{LEAST}" if at_top else f"{LEAST}{lines}\n")
    [problem] = [one for one in find_problems(path, {}) if not one.warning]
    assert problem.key == key
    assert words in problem.text
    line = path.read_text().split("\n")[problem.line - 1]
    table, _, name = key.partition("[")[0].rpartition(".")
    assert name.strip('"') in line or line.endswith(f"{table}]")
    with pytest.raises(ConfigFileError):
        load_config(path)


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        ("mirror", "mirror", "it has the same path as [sinks.a]"),
        ("mirror", "./x/../mirror/", "it has the same path as [sinks.a]"),
        ("mirror", "mirror/in/side", "one lies inside the other: it and [sinks.a]"),
        ("mirror/inside", "mirror", "one lies inside the other: it and [sinks.a]"),
        ("real", "link", "it has the same path as [sinks.a]"),
    ],
)
def test_two_folders_that_are_one_another(write: Write, tmp_path: Path, one: str, other: str, words: str) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    sinks = "".join(f'[sinks.{name}]\ntype = "file"\npath = "{path}"\n' for name, path in (("a", one), ("b", other)))
    problems = [problem for problem in find_problems(write(LEAST + sinks), {}) if not problem.warning]
    assert [(problem.key, problem.line, problem.text) for problem in problems] == [("sinks.b", 10, words)]


def test_folders_that_lie_apart(write: Write) -> None:
    sinks = "".join(f'[sinks.{name}]\ntype = "file"\npath = "{name}"\n' for name in ("a", "ab", "c"))
    assert all(problem.warning for problem in find_problems(write(LEAST + sinks), {}))


def test_two_files_of_lines_are_not_one(told: Callable[[str], list[str]]) -> None:
    sinks = "".join(f'[sinks.{name}]\ntype = "jsonl"\npath = "lines"\n' for name in ("a", "b"))
    assert "config.toml:10: sinks.b: it has the same path as [sinks.a]" in told(LEAST + sinks)


MIRROR = LEAST.replace('type = "stdout"', 'type = "file"\npath = "mirror"')


def test_a_mirror_begins_at_byte_0(told: Callable[[str], list[str]]) -> None:
    assert told(f'{MIRROR}start = "end"\n') == [
        "config.toml:8: groups.web.start: a mirror begins at byte 0: sink is of type file"
    ]


def test_two_groups_cannot_write_one_mirror(told: Callable[[str], list[str]]) -> None:
    other = '[groups.other]\nobjects = [\n"oss://bucket/x",\n"oss://bucket/web/*.log"]\nsink = "out"\n'
    assert told(f"{MIRROR}{other}") == [
        "config.toml:11: groups.other.objects[1]: group web mirrors this into the same folder"
    ]


def test_what_has_no_effect_is_a_warning(told: Callable[[str], list[str]]) -> None:
    limits = "[limits]\ndaily_cost = 5\ndaily_requests = 5\n"
    assert told(f"{LEAST}{limits}") == [
        "config.toml:8: warning: limits.daily_cost: is not used, since daily_requests is given"
    ]


# --- what cannot be read


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a = \n", "config.toml:1: this is not TOML: invalid value"),
        ("\n[groups.web\n", "config.toml:2: this is not TOML: expected ']' at the end of a table declaration"),
        ("a = 'x\n", "config.toml:2: this is not TOML: "),
        (f'a = "{SECRET}\n', "config.toml:1: this is not TOML: "),
        (f"a = {SECRET}", "config.toml:1: this is not TOML: invalid value"),
        ('a = "\\0"\n', "config.toml:1: this is not TOML: unescaped '\\' in a string (a NUL is '\\0' or "),
        (f"{LEAST}[groups.web]\n", "config.toml:7: groups.web: this is there twice"),
        ("a = 1\na = 2\n", "config.toml:2: this is there twice"),
        ("a = {b = 1, b = 2}\n", "config.toml:1: this is not TOML: duplicate inline table key 'b'"),
        ("[a]\nb = 1\n[a.b]\n", "config.toml:3: "),
        ("a = 2024-02-31", "config.toml:1: this is not TOML: invalid date or datetime"),
        ("a = 1" + "0" * 5000, "config.toml: this is not TOML: "),
        ("a = " + "[" * 100_000, "config.toml: it is nested too deeply"),
        ("x" * (1 << 21), "config.toml: it has more than 1048576 bytes: that is no configuration"),
    ],
    ids=range(14),
)
def test_a_text_that_is_not_toml_is_one_line(told: Callable[[str], list[str]], text: str, line: str) -> None:
    [said] = told(text)
    assert said.startswith(line)
    assert said.isprintable()
    assert SECRET not in said


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"a = 1\nb = '\xff'\n")
    (tmp_path / "large").write_bytes(b"#" * 10_000_000)
    for name, words in (
        ("none", "it cannot be read: No such file or directory"),
        (".", "it cannot be read: Is a directory"),
        ("nul\0", "it cannot be read: embedded null byte"),
        ("binary", "it is not UTF-8, from line 2 on"),
        ("large", "it has more than 1048576 bytes: that is no configuration"),
    ):
        path = os.path.join(tmp_path, name)
        assert find_problems(path) == [Problem(path, 0, "", words)]


def test_a_byte_order_mark_and_the_line_ends_of_windows(write: Write, tmp_path: Path) -> None:
    config = load_config(write(LEAST))
    (tmp_path / "config.toml").write_bytes(b"\xef\xbb\xbf" + LEAST.replace("\n", "\r\n").encode())
    assert load_config(tmp_path / "config.toml") == config


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)


def as_toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{as_toml(name)} = {as_toml(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(sign):08x}" for sign in value) + '"'
    return str(value).lower() if value is not None else "2024-01-01T00:00:00Z"


@given(st.data())
def test_whatever_a_value_is_there_is_a_configuration_or_a_mistake(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """And never anything else; a key whose value is wrong is told."""
    tables = {"": ServiceConfig, "[oss]": OssConfig, "[limits]": Limits, "[server]": ServerConfig,
              "[sinks.x]": SinkConfig, "[groups.x]": GroupConfig}  # fmt: skip
    header = data.draw(st.sampled_from(list(tables)))
    names = st.sampled_from([field.name for field in fields(tables[header])]) | st.text(max_size=5)
    values = data.draw(st.dictionaries(names, ANYTHING, max_size=3))
    lines = [f"{as_toml(name)} = {as_toml(value)}" for name, value in values.items()]
    path = tmp_path_factory.getbasetemp() / "anything.toml"
    path.write_text("\n".join([*lines, LEAST] if not header else [LEAST, header, *lines]), "utf-8")
    config, problems = read_config(path, {})
    assert (config is None) == any(not one.warning for one in problems)
    assert all(str(one).isprintable() and one.line <= len(path.read_text().split("\n")) for one in problems)


# --- secrets


@pytest.mark.parametrize(
    "lines",
    [
        f"[oss]\naccess_key_id = '{SECRET}'\naccess_key_secret = '{SECRET}'\nsession_token = '{SECRET}'",
        f"[oss]\naccess_key_id = {{ value = '{SECRET}' }}\naccess_key_secret = ['{SECRET}']",
        f"[oss]\nacces_key_secret = '{SECRET}'",
        f"[oss]\nendpoint = 'https://user:{SECRET}@host'",
        f"[sinks.x]\ntype = 'http'\nurl = 'https://user:{SECRET}@host'",
        f"[sinks.x]\ntype = 'http'\nurl = 'https://host/x?access_token={SECRET}'",
        f"[sinks.x]\ntype = 'http'\nurl = 'https://host/x?key={SECRET}'",
        f"[sinks.x]\ntype = 'http'\nurl = 'https://host/x'\nheaders = {{ Authorization = 'Bearer {SECRET}' }}",
        f"[sinks.x]\ntype = 'http'\nurl = 'https://host/x'\nheaders = {{ X-Api-Key = '{SECRET}' }}",
        f"[sinks.x]\ntype = 'http'\nurl = 'https://host/x'\nheaders = {{ X-Other = 'Basic {SECRET}' }}",
        f"[sinks.x]\ntype = 'exec'\ncommand = ['load', '--token', '{SECRET}', 1]",
        f"[groups.x]\nsink = 'out'\nobjects = ['https://host/x?x-oss-signature={SECRET}&security-token={SECRET}']",
        f"[groups.x]\nsink = 'out'\nobjects = ['https://user:{SECRET}@host/x']",
    ],
    ids=range(13),
)
def test_a_secret_that_is_written_out_is_refused_and_not_shown(write: Write, lines: str) -> None:
    path = write(f"{LEAST}{lines}\n")
    with pytest.raises(ConfigFileError) as caught:
        load_config(path, {"OSS_ACCESS_KEY_SECRET": SECRET})
    check([*shown(caught.value), *map(str, find_problems(path, {}))])


def test_what_a_reference_is(told: Callable[[str], list[str]]) -> None:
    told_of = told(
        LEAST
        + "[oss]\naccess_key_id = { env = 'A', file = 'b' }\naccess_key_secret = { env = 1 }\nsession_token = {}\n"
    )
    assert [line.rpartition(": is given by reference alone: ")[2] for line in told_of] == [
        '{ env = "NAME" } or { file = "/path" }'
    ] * 3


def test_a_reference_is_read_when_it_is_needed(tmp_path: Path) -> None:
    """Without white space around it; what it leads to may change."""
    path = tmp_path / "secret"
    path.write_text(" one\n")
    assert Reference("file", str(path)).read({}) == "one"
    path.write_text("two")
    assert Reference("file", str(path)).read({}) == "two"
    assert Reference("env", "X").read({"X": "\tthree\n"}) == "three"


def test_a_reference_that_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "binary").write_bytes(b"\xff")
    (tmp_path / "large").write_bytes(b"x" * 100_000)
    for reference, words in (
        (Reference("env", "X"), "the environment variable X is not set"),
        (Reference("file", f"{tmp_path}/none"), "none' cannot be read: No such file or directory"),
        (Reference("file", f"{tmp_path}/empty"), "empty' is empty"),
        (Reference("file", f"{tmp_path}/binary"), "binary' holds no text: it is not UTF-8"),
        (Reference("file", f"{tmp_path}/large"), "large' is too large for a secret"),
    ):
        with pytest.raises(ConfigError) as caught:
            reference.read({"X": " "})
        assert words in str(caught.value)


def test_secrets_that_cannot_be_had_here_are_warnings(told: Callable[[str], list[str]]) -> None:
    text = f"""{LEAST}[oss]
access_key_id = {{ env = "MY_ID" }}
access_key_secret = {{ file = "/no/such/file" }}
[sinks.x]
type = "http"
url = "http://host/"
headers = {{ Authorization = {{ env = "TOKEN" }} }}
[groups.x]
objects = ["oss://bucket/x"]
sink = "x"
"""
    assert told(text) == [
        "config.toml:8: warning: oss.access_key_id: the environment variable MY_ID is not set",
        "config.toml:9: warning: oss.access_key_secret: "
        "the file '/no/such/file' cannot be read: No such file or directory",
        "config.toml:13: warning: sinks.x.headers.Authorization: the environment variable TOKEN is not set",
    ]


# --- the service


def test_keys_of_the_file_go_before_those_of_the_environment(write: Write, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("first\n")
    keys = 'access_key_id = { env = "MY_ID" }\naccess_key_secret = { file = "secret" }\n'
    config = load_config(write(f'{LEAST}[oss]\nregion = "cn-x"\n{keys}'))
    environ = {"MY_ID": "mine", "OSS_ACCESS_KEY_ID": "other", "OSS_ACCESS_KEY_SECRET": "other", "HOME": str(tmp_path)}
    settings = service_settings(config, environ)
    assert (str(settings.endpoint), settings.region) == ("https://oss-cn-x.aliyuncs.com", "cn-x")

    async def keys_change() -> None:
        assert await settings.credentials.get() == Credentials("mine", "first")
        (tmp_path / "secret").write_text("second")
        assert await settings.credentials.get() == Credentials("mine", "first")
        await settings.credentials.refresh()
        assert await settings.credentials.get() == Credentials("mine", "second")

    asyncio.run(keys_change())


def test_a_key_that_cannot_be_had_is_an_error_without_it(write: Write) -> None:
    keys = 'access_key_id = { env = "MY_ID" }\naccess_key_secret = { file = "none" }\n'
    config = load_config(write(f'{LEAST}[oss]\nregion = "cn-x"\n{keys}'))
    with pytest.raises(ConfigError, match="cannot be read") as caught:
        service_settings(config, {"MY_ID": SECRET})
    check(shown(caught.value))


def test_without_keys_in_the_file_the_environment_decides(write: Write, tmp_path: Path) -> None:
    environ = {"OSS_REGION": "cn-y", "OSS_ACCESS_KEY_ID": "a", "OSS_ACCESS_KEY_SECRET": "b", "HOME": str(tmp_path)}
    settings = service_settings(load_config(write(LEAST)), environ)
    assert asyncio.run(settings.credentials.get()) == Credentials("a", "b")
    assert settings.region == "cn-y"
    bare = {"OSS_REGION": "cn-y", "HOME": str(tmp_path)}
    assert isinstance(service_settings(load_config(write(LEAST)), bare).credentials, ChainCredentials)
    unsigned = load_config(write(f"{LEAST}[oss]\nsign = false\n"))
    assert isinstance(service_settings(unsigned, environ).credentials, Anonymous)


def test_what_is_missing_is_named_as_it_is_in_the_file(write: Write, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"give oss\.region or oss\.endpoint, set OSS_REGION"):
        service_settings(load_config(write(LEAST)), {"HOME": str(tmp_path)})


def test_objects_that_are_known_by_their_url_need_no_service(write: Write) -> None:
    config = load_config(write(LEAST.replace("oss://bucket/web/*.log", "https://host/key")))
    assert service_settings(config, {}).endpoint is None


# --- the documentation

TABLES = {
    "At the top": ServiceConfig,
    "`[oss]`": OssConfig,
    "`[limits]`": Limits,
    "`[server]`": ServerConfig,
    "`[sinks.NAME]`": SinkConfig,
    "`[groups.NAME]`": GroupConfig,
}
TABLES_OF_THEIR_OWN = {"oss", "limits", "server", "sinks", "groups", "name"}


def rows(section: str) -> dict[str, list[str]]:
    """The rows of a table of the documentation, by key."""
    text = (ROOT / "docs" / "configuration.md").read_text().partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return {
        cells[0].strip("`"): cells[1:]
        for line in text.splitlines()
        if line.startswith("| `")
        for cells in [[cell.strip() for cell in line.strip("|").split(" | ")]]
    }


@pytest.mark.parametrize("section", TABLES)
def test_every_key_is_documented_and_no_other(section: str) -> None:
    assert set(rows(section)) == {field.name for field in fields(TABLES[section])} - TABLES_OF_THEIR_OWN


def default_of(field: Field[Any]) -> object:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def written(section: str, kind: str, lines: str = "") -> str:
    """A document with a sink of type `kind`, and `lines` in the table of one section."""
    tables = {
        "At the top": 'checkpoint = "state.db"\n',
        "`[oss]`": "[oss]\n",
        "`[limits]`": "[limits]\n",
        "`[server]`": "[server]\n",
        "`[sinks.NAME]`": {
            "file": '[sinks.NAME]\ntype = "file"\npath = "x"\n',
            "http": '[sinks.NAME]\ntype = "http"\nurl = "http://x/"\n',
        }[kind],
        "`[groups.NAME]`": '[groups.NAME]\nobjects = ["oss://bucket/x"]\nsink = "NAME"\n',
    }
    tables[section] += lines
    return "".join(tables.values())


@pytest.mark.parametrize("kind", ["file", "http"])
@pytest.mark.parametrize("section", TABLES)
def test_the_documented_defaults_are_those_of_the_code(section: str, kind: str, write: Write) -> None:
    """What has one is the same written out; what has none is required, or None."""
    defaults = {field.name: default_of(field) for field in fields(TABLES[section])}
    lines = ""
    for name, cells in rows(section).items():
        cell = cells[-2]
        assert (cell == "none") == (defaults[name] is None), name
        assert (cell == "*required*") == (defaults[name] is MISSING), name
        if section == "`[sinks.NAME]`" and cells[0] not in ("all", f"`{kind}`"):
            continue
        if cell not in ("none", "*required*"):
            lines += f"{name} = {cell.strip('`')}\n"
    assert load_config(write(written(section, kind, lines))) == load_config(write(written(section, kind)))


def test_the_example_is_good() -> None:
    path = ROOT / "examples" / "service.toml"
    assert [str(one) for one in find_problems(path) if not one.warning or "environment variable" not in one.text] == []


def test_what_stands_in_the_example_as_a_comment_is_good_too(write: Write) -> None:
    """Every line ``# key = value``."""
    text = (ROOT / "examples" / "service.toml").read_text()
    commented = re.findall(r"^# (\w+ = .*)$", text, re.M)
    assert len(commented) > 5
    for line in commented:
        problems = find_problems(write(text.replace(f"# {line}", line)), {})
        assert [str(one) for one in problems if not one.warning] == []


def test_the_least_example_of_the_documentation_is_good(write: Write) -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    [least] = re.findall(r"```toml\n(.*?)```", text, re.S)
    assert find_problems(write(least), {}) == []
