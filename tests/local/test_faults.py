"""Every fault over a real socket, set in the process and through the admin path."""

from __future__ import annotations

import gzip
import http.client
import json
import time
import urllib.request
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import pytest

from tailer.local import Fault, running
from tailer.local.faults import KINDS, Faults

if TYPE_CHECKING:
    from conftest import Requester

    from tailer.local.server import LocalServer

BODY = bytes(range(256)) * 1024


@pytest.fixture
def full(server: LocalServer) -> LocalServer:
    """The server with one object."""
    server.store.append("demo", "log", 0, BODY)
    return server


def test_status(full: LocalServer, ask: Requester) -> None:
    """With code, message and the delay that a throttle names; then all is well again."""
    full.faults.add(Fault("status", status=429, code="QpsLimitExceeded", message="slow down", delay_ms=250, count=1))
    reply = ask("GET", "log")
    assert (reply.status, reply.code, reply.error["Message"]) == (429, "QpsLimitExceeded", "slow down")
    assert reply.headers["x-oss-qos-delay-time"] == "250"
    assert ask("GET", "log").status == 200


def test_status_of_head_is_in_headers(full: LocalServer, ask: Requester) -> None:
    """Like every refusal."""
    full.faults.add(Fault("status", operation="HeadObject", status=500, code="InternalError"))
    assert (ask("HEAD", "log").status, ask("HEAD", "log").code) == (500, "InternalError")
    assert ask("GET", "log").status == 200


def test_a_refused_append_does_nothing(full: LocalServer, ask: Requester) -> None:
    """A status fault stands before the operation."""
    full.faults.add(Fault("status", operation="AppendObject"))
    assert ask.append("log", len(BODY), b"x").status == 503
    assert full.store.head("demo", "log").size == len(BODY)


def test_an_append_whose_answer_is_lost_is_done(full: LocalServer, ask: Requester) -> None:
    """The writer cannot know."""
    full.faults.add(Fault("lose-answer", operation="AppendObject"))
    with pytest.raises(http.client.RemoteDisconnected):
        ask.append("log", len(BODY), b"x")
    assert full.store.head("demo", "log").size == len(BODY) + 1


@pytest.mark.parametrize("at", [0, 1, 1000, 100_000, len(BODY) - 1])
def test_cut(full: LocalServer, ask: Requester, at: int) -> None:
    """Exactly so many bytes, under the full Content-Length."""
    full.faults.add(Fault("cut", at=at))
    with pytest.raises(http.client.IncompleteRead) as cut:
        ask("GET", "log")
    assert cut.value.partial == BODY[:at]
    assert cut.value.expected == len(BODY) - at


def test_cut_in_a_range_counts_from_its_start(full: LocalServer, ask: Requester) -> None:
    """It is the body that is cut, not the object."""
    full.faults.add(Fault("cut", at=10))
    with pytest.raises(http.client.IncompleteRead) as cut:
        ask("GET", "log", Range="bytes=100-199")
    assert cut.value.partial == BODY[100:110]


def test_cut_of_a_list(full: LocalServer, ask: Requester) -> None:
    """Documents are bodies, too."""
    full.faults.add(Fault("cut", operation="ListObjectsV2", at=100))
    with pytest.raises(http.client.IncompleteRead) as cut:
        ask("GET", None, "list-type=2")
    assert len(cut.value.partial) == 100


@pytest.mark.parametrize("at", [None, 0, 5000])
def test_reset(full: LocalServer, ask: Requester, at: int | None) -> None:
    """RST, before the answer or in its body."""
    full.faults.add(Fault("reset", at=at))
    with pytest.raises(ConnectionResetError):
        ask("GET", "log")


def test_slow(full: LocalServer, ask: Requester) -> None:
    """The whole body, at about the rate asked for."""
    full.faults.add(Fault("slow", rate=1_000_000))
    began = time.perf_counter()
    assert ask("GET", "log").body == BODY
    assert 0.15 < time.perf_counter() - began < 2


@pytest.mark.parametrize("at", [None, 0, 1000])
def test_stall(full: LocalServer, ask: Requester, at: int | None) -> None:
    """Before the answer or in its body; then everything comes."""
    full.faults.add(Fault("stall", at=at, seconds=0.2))
    began = time.perf_counter()
    assert ask("GET", "log").body == BODY
    assert time.perf_counter() - began > 0.19


def test_flip_bit(full: LocalServer, ask: Requester) -> None:
    """One bit of one byte of the object, wherever the range starts; the CRC stays the true one."""
    full.faults.add(Fault("flip-bit", at=70_000))
    wrong = bytearray(BODY)
    wrong[70_000] ^= 1
    assert ask("GET", "log").body == wrong
    assert ask("GET", "log", Range="bytes=69999-70001").body == wrong[69999:70002]
    assert ask("GET", "log", Range="bytes=0-69999").body == BODY[:70_000]
    assert ask("GET", "log").crc == full.store.head("demo", "log").crc64
    assert full.store.read("demo", "log") == BODY


def test_crc_flipped_and_dropped(full: LocalServer, ask: Requester) -> None:
    """On HEAD and GET alike; another header can be dropped as well."""
    full.faults.add(Fault("flip-crc", count=2))
    right = full.store.head("demo", "log").crc64
    assert [ask("HEAD", "log").crc, ask("GET", "log").crc, ask("GET", "log").crc] == [right ^ 1, right ^ 1, right]
    full.faults.replace([Fault("drop-header"), Fault("drop-header", method="HEAD", header="etag")])
    assert "x-oss-hash-crc64ecma" not in ask("GET", "log").headers
    full.faults.replace([Fault("drop-header", header="etag")])
    assert "ETag" not in ask("HEAD", "log").headers


def test_gzip(full: LocalServer, ask: Requester) -> None:
    """Text of 1 KiB and more for a client that accepts it: no length, no ETag, no ranges; nobody else's."""
    full.faults.add(Fault("gzip"))
    ask.append("text", 0, b"line\n" * 1000, Content_Type="text/plain; charset=utf-8")
    ask.append("short", 0, b"line\n" * 100, Content_Type="text/plain")
    for method in ("GET", "HEAD"):
        reply = ask(method, "text", Accept_Encoding="gzip, deflate")
        assert reply.headers["Content-Encoding"] == "gzip"
        assert not {"Content-Length", "ETag", "Accept-Ranges"} & set(reply.headers)
        assert gzip.decompress(reply.body) == b"line\n" * 1000 if method == "GET" else reply.body == b""
    assert ask("GET", "text", Accept_Encoding="identity").body == b"line\n" * 1000
    assert ask("GET", "short", Accept_Encoding="gzip").body == b"line\n" * 100
    assert ask("GET", "log", Accept_Encoding="gzip").body == BODY
    assert ask("GET", "text", Accept_Encoding="gzip", Range="bytes=0-1999").body == (b"line\n" * 1000)[:2000]


def test_stale_head(full: LocalServer, ask: Requester) -> None:
    """As of before the last change, or of some seconds ago; GET stays true."""
    before = full.store.head("demo", "log")
    ask.append("log", len(BODY), b"more")
    full.faults.add(Fault("stale-head"))
    head = ask("HEAD", "log")
    assert (head.headers["Content-Length"], head.crc) == (str(len(BODY)), before.crc64)
    assert ask("HEAD", "log", "objectMeta").crc == before.crc64
    assert len(ask("GET", "log").body) == len(BODY) + 4
    full.faults.replace([Fault("stale-head", seconds=3600)])
    assert ask("HEAD", "log").code == "NoSuchKey"
    full.faults.replace([Fault("stale-head", seconds=0.0001)])
    assert ask("HEAD", "log").position == len(BODY) + 4


def test_stale_head_of_some_time_ago() -> None:
    """While such a fault is in force, older states are kept as well."""
    now = [1_000_000.0]
    with running(["demo"], clock=lambda: now[0]) as server:
        history = server.service.history
        server.faults.add(Fault("stale-head", seconds=10))
        for position in range(100):
            server.store.append("demo", "log", position, b"x")
            now[0] += 1
        seen = [history.as_of(now[0], seconds, "demo", "log") for seconds in (1, 50, 100, 101)]
        assert [info and info.size for info in seen] == [100, 51, 1, None]


def test_ignored_and_shifted_ranges(full: LocalServer, ask: Requester) -> None:
    """200 with everything; or a 206 that lies."""
    full.faults.add(Fault("ignore-range"))
    reply = ask("GET", "log", Range="bytes=10-", x_oss_range_behavior="standard")
    assert (reply.status, reply.body) == (200, BODY)
    full.faults.replace([Fault("shift-range", by=-3)])
    reply = ask("GET", "log", Range="bytes=10-19")
    assert (reply.status, reply.body) == (206, BODY[10:20])
    assert reply.headers["Content-Range"] == f"bytes 7-16/{len(BODY)}"


def test_wrong_length(full: LocalServer, ask: Requester) -> None:
    """More than comes, or less."""
    full.faults.add(Fault("wrong-length", by=7))
    with pytest.raises(http.client.IncompleteRead) as cut:
        ask("GET", "log")
    assert (cut.value.partial, cut.value.expected) == (BODY, 7)
    full.faults.replace([Fault("wrong-length", by=-7)])
    assert ask("GET", "log").body == BODY[:-7]
    assert ask("HEAD", "log").headers["Content-Length"] == str(len(BODY) - 7)


def test_nonsense(full: LocalServer, ask: Requester) -> None:
    """A proxy's page, with any status; XML that breaks off."""
    full.faults.add(Fault("html", status=200))
    reply = ask("GET", "log")
    assert (reply.status, reply.headers["Content-Type"]) == (200, "text/html")
    assert reply.body.startswith(b"<html>")
    full.faults.replace([Fault("malformed-xml", status=404, code="NoSuchKey")])
    reply = ask("GET", None, "list-type=2")
    assert (reply.status, reply.body[-5:]) == (404, b"</Cod")


def test_skew(full: LocalServer, ask: Requester) -> None:
    """Date and the check of signatures are off by as much; a client that adjusts gets in."""
    full.faults.add(Fault("skew", by=86_400))
    reply = ask("GET", "log")
    assert reply.code == "RequestTimeTooSkewed"
    ahead = parsedate_to_datetime(reply.headers["Date"]).timestamp() - time.time()
    assert 86_000 < ahead < 87_000
    assert replace(ask, offset=ahead)("GET", "log").status == 200


# --- which requests


@pytest.mark.parametrize(
    ("limits", "hits"),
    [
        ({}, "xxxxxx"),
        ({"count": 2}, "xx...."),
        ({"after": 2}, "..xxxx"),
        ({"after": 1, "count": 3}, ".xxx.."),
        ({"count": 0}, "......"),
        ({"probability": 0.0}, "......"),
    ],
)
def test_how_often(limits: dict[str, Any], hits: str) -> None:
    """After so many, at most so many."""
    faults = Faults()
    faults.add(Fault("flip-crc", **limits))
    found = [bool(faults.strike("GetObject", "GET", "demo", "log")) for _ in hits]
    assert "".join(".x"[hit] for hit in found) == hits
    assert faults.report()[0]["matched"] == 6
    assert faults.injected == hits.count("x")


def test_chance_is_seeded() -> None:
    """The same requests meet the same faults; another seed, others."""

    def drawn(seed: int) -> list[bool]:
        faults = Faults(seed)
        faults.add(Fault("flip-crc", probability=0.5))
        return [bool(faults.strike("GetObject", "GET", "demo", "log")) for _ in range(200)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert 60 < sum(drawn(1)) < 140


@pytest.mark.parametrize(
    ("match", "hit"),
    [
        ({"operation": "GetObject"}, True),
        ({"operation": "Get*"}, True),
        ({"operation": "HeadObject"}, False),
        ({"method": "GET"}, True),
        ({"method": "HEAD"}, False),
        ({"bucket": "demo"}, True),
        ({"bucket": "other"}, False),
        ({"key": "logs/*"}, True),
        ({"key": "logs/?.log"}, True),
        ({"key": "*.txt"}, False),
        ({"operation": "Get*", "method": "GET", "bucket": "d*", "key": "logs/[ab].log"}, True),
    ],
)
def test_matching(match: dict[str, str], hit: bool) -> None:
    """All that is named must fit."""
    faults = Faults()
    faults.add(Fault("flip-crc", **match))
    assert bool(faults.strike("GetObject", "GET", "demo", "logs/a.log")) is hit


def test_faults_join(full: LocalServer, ask: Requester) -> None:
    """Several at once on one answer."""
    full.faults.add(Fault("flip-bit", at=0), Fault("flip-crc"), Fault("cut", at=5))
    with pytest.raises(http.client.IncompleteRead) as cut:
        ask("GET", "log")
    assert cut.value.partial == b"\x01\x01\x02\x03\x04"


# --- the admin path


def administer(
    server: LocalServer, method: str, data: object = None, kind: str = "application/json"
) -> tuple[int, Any]:
    """Status and what came back."""
    body = None if data is None else data if isinstance(data, bytes) else json.dumps(data).encode()
    request = urllib.request.Request(f"{server.endpoint}/-/faults", body, {"Content-Type": kind}, method=method)
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_admin_path(full: LocalServer, ask: Requester) -> None:
    """Added, seen with their counts, put in place of others, cleared."""
    assert administer(full, "GET") == (200, {"faults": [], "injected": 0})
    administer(full, "POST", {"kind": "status", "operation": "GetObject", "status": 500, "count": 1})
    status, report = administer(full, "POST", [{"kind": "flip-crc", "key": "other"}])
    assert (status, [fault["kind"] for fault in report["faults"]]) == (200, ["status", "flip-crc"])
    assert [ask("GET", "log").status for _ in range(3)] == [500, 200, 200]
    report = administer(full, "GET")[1]
    assert (report["injected"], report["faults"][0]["matched"], report["faults"][1]["matched"]) == (1, 3, 0)
    assert [f["kind"] for f in administer(full, "POST", {"replace": [{"kind": "gzip"}], "seed": 3})[1]["faults"]] == [
        "gzip"
    ]
    assert administer(full, "DELETE") == (200, {"faults": [], "injected": 0})


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"{", "property name"),
        (b"[1]", "JSON object"),
        (b'"x"', "JSON object"),
        ({}, "kind is missing"),
        ({"kind": "melt"}, "no such kind"),
        ({"kind": "cut"}, "needs 'at'"),
        ({"kind": "slow", "rate": 0}, "more than 0"),
        ({"kind": "cut", "at": "5"}, "must be a whole number"),
        ({"kind": "cut", "at": True}, "must be a whole number"),
        ({"kind": "cut", "at": 1.5}, "must be a whole number"),
        ({"kind": "cut", "at": -1}, "must not be negative"),
        ({"kind": "slow", "rate": "fast"}, "must be a number"),
        (b'{"kind": "stall", "seconds": NaN}', "must be a number"),
        ({"kind": "gzip", "probability": 2}, "0 to 1"),
        ({"kind": "gzip", "key": 5}, "must be text"),
        ({"kind": "gzip", "colour": "red"}, "no such field"),
        ({"kind": "status", "status": 99}, "400 to 599"),
        ({"replace": [], "seed": "x"}, "expected"),
        ({"replace": [], "other": 1}, "expected"),
    ],
)
def test_bad_faults_are_refused_in_words(full: LocalServer, data: object, word: str) -> None:
    """400 with one line; nothing is changed."""
    status, text = administer(full, "POST", data)
    assert status == 400
    assert word in text
    assert full.faults.report() == []


def test_a_page_in_a_browser_cannot_set_faults(full: LocalServer) -> None:
    """A type that needs no permission across origins is not taken."""
    assert administer(full, "POST", {"kind": "gzip"}, "text/plain")[0] == 400
    assert administer(full, "PUT", {"kind": "gzip"})[0] == 405
    assert full.faults.report() == []


def test_every_kind_has_its_test() -> None:
    """By name in this file."""
    with open(__file__, encoding="utf-8") as file:
        text = file.read()
    assert [kind for kind in KINDS if f'Fault("{kind}"' not in text] == []


def test_faults_with_a_folder(tmp_path: Any) -> None:
    """They do not depend on where objects are kept."""
    with running(["demo"], root=tmp_path) as server:
        server.store.create_bucket("demo", "public-read")
        server.store.append("demo", "log", 0, BODY)
        server.faults.add(Fault("flip-bit", at=3), Fault("cut", at=200_000))
        with pytest.raises(http.client.IncompleteRead) as cut:
            urllib.request.urlopen(f"{server.endpoint}/demo/log").read()
    assert cut.value.partial == BODY[:3] + b"\x02" + BODY[4:200_000]
