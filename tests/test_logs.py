"""The log: one line for each thing, that a machine and a person can read, and that no key can forge."""

from __future__ import annotations

import io
import json
import logging
from typing import TYPE_CHECKING

import pytest

from tailer.errors import AccessDenied, SinkError
from tailer.logs import of_error, set_up

if TYPE_CHECKING:
    from collections.abc import Iterator

LOG = logging.getLogger("tailer.anything")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("tailer")
    handlers, level = [*root.handlers], ours.level
    yield
    root.handlers[:] = handlers
    ours.setLevel(level)


def logging_to(format: str = "logfmt", level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    set_up(format, level, stream)  # type: ignore[arg-type]
    return stream


def test_a_line_of_logfmt_has_the_time_the_level_the_message_and_the_fields() -> None:
    stream = logging_to()
    LOG.warning("the listing failed", extra={"group": "web", "offset": 17, "request_id": "5C3D9778CC1C2AEDF85B"})
    time, rest = stream.getvalue().split(" ", 1)
    assert time.startswith("ts=2")
    assert time.endswith("Z")
    assert rest == 'level=warning msg="the listing failed" group=web offset=17 request_id=5C3D9778CC1C2AEDF85B\n'


def test_a_line_of_json_has_the_same() -> None:
    stream = logging_to("json")
    LOG.error("no", extra={"object": "oss://logs/日志.log", "ready": True, "seconds": 0.5})
    line = json.loads(stream.getvalue())
    assert (line["level"], line["msg"], line["object"]) == ("error", "no", "oss://logs/日志.log")
    assert (line["ready"], line["seconds"]) == (True, 0.5)


@pytest.mark.parametrize("format", ["logfmt", "json"])
@pytest.mark.parametrize(
    "key", ["a\nlevel=error msg=forged", 'a" level="error', "a\x1b[2Jb", "a\u202eb", "\udc80", "", "a=b", "a\\"]
)
def test_no_key_forges_a_line_or_drives_a_terminal(format: str, key: str) -> None:
    stream = logging_to(format)
    LOG.info("read", extra={"object": f"oss://logs/{key}"})
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert text[:-1].isprintable()
    value = text[:-1].partition("object=")[2]
    found = json.loads(text)["object"] if format == "json" else json.loads(value) if value[0] == '"' else value
    assert found == f"oss://logs/{key}"


def test_letters_of_all_scripts_stay_readable_in_logfmt() -> None:
    stream = logging_to()
    LOG.info("read", extra={"object": "oss://logs/日志.log"})
    assert stream.getvalue().endswith(" object=oss://logs/日志.log\n")


def test_an_error_is_told_with_what_the_service_names_it_by() -> None:
    denied = AccessDenied("not yours", status=403, code="AccessDenied", request_id="5C3D")
    fields = of_error(denied)
    assert {name: fields[name] for name in ("kind", "status", "code", "request_id")} == {
        "kind": "AccessDenied",
        "status": 403,
        "code": "AccessDenied",
        "request_id": "5C3D",
    }
    assert of_error(SinkError("no")) == {"error": "no", "kind": "SinkError"}


def test_the_level_holds_for_what_is_ours_and_libraries_are_heard_when_they_warn() -> None:
    stream = logging_to(level="info")
    LOG.debug("ours, too fine")
    logging.getLogger("some.library").info("theirs, too fine")
    logging.getLogger("some.library").warning("theirs")
    assert len(stream.getvalue().splitlines()) == 1
    assert "logger=some.library msg=theirs" in stream.getvalue()


def test_setting_up_again_changes_format_and_level_and_doubles_no_line() -> None:
    first = logging_to("logfmt", "error")
    second = logging_to("json", "debug")
    LOG.debug("now")
    assert first.getvalue() == ""
    assert json.loads(second.getvalue())["msg"] == "now"


def fail() -> None:
    raise ValueError("broken\nin two")


def test_a_traceback_is_for_debug_alone() -> None:
    for level in ("info", "debug"):
        stream = logging_to(level=level)
        try:
            fail()
        except ValueError:
            LOG.exception("a mistake of ours")
        text = stream.getvalue()
        assert text.count("\n") == 1
        assert r'exception="ValueError: broken\nin two"' in text
        assert ("traceback=" in text) == (level == "debug")


def test_ten_thousand_lines_of_one_kind_are_a_few_and_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_700_000_000.0
    monkeypatch.setattr("logging.time.time", lambda: now)
    stream = logging_to()
    for number in range(10_000):
        LOG.warning("cannot be read", extra={"object": f"oss://logs/{number}"})
    LOG.warning("something else")
    assert len(stream.getvalue().splitlines()) == 21
    now += 61
    LOG.warning("cannot be read", extra={"object": "oss://logs/again"})
    last = stream.getvalue().splitlines()[21:]
    assert "left_out=9980" in last[0]
    assert "oss://logs/again" in last[1]


def test_a_log_that_nobody_reads_any_more_stops_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    set_up("logfmt", "info", Closed())
    LOG.info("anybody there?")
    assert capsys.readouterr().err == ""
