"""The port over real sockets: what it serves, to whom, and what it bears."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import logging
import math
import socket
import sys
import threading
import time
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tailer.errors import ConfigError
from tailer.web import serve, server
from tailer.web.hints import MAX_BODY
from tailer.web.server import MAX_LISTENERS, status_json
from tests.made_up import MadeUp, group_status, object_status, open_port, service_status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EVENT = {"events": [{"oss": {"bucket": {"name": "logs"}, "object": {"key": "app.log"}}}]}


@pytest.fixture
def served() -> MadeUp:
    return MadeUp(known={"oss://logs/app.log"})


@pytest.fixture
def url(served: MadeUp) -> Iterator[str]:
    with open_port(served) as url:
        yield url


class Answer:
    """One answer, read whole."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.text = response.read().decode()


def connect(url: str) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)


def ask(url: str, path: str, method: str = "GET", body: object = None, **headers: str) -> Answer:
    """One request on a connection of its own; ``_`` in the name of a header is ``-``."""
    connection = connect(url)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, named)  # type: ignore[arg-type]
        return Answer(connection.getresponse())
    finally:
        connection.close()


# --- what is served


def test_metrics_have_the_content_type_of_their_format(url: str) -> None:
    answer = ask(url, "/metrics")
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.text == "# TYPE made_up gauge\nmade_up 1\n"


@pytest.mark.parametrize(("path", "well"), [("/healthz", "ok\n"), ("/readyz", "ready\n")])
def test_health_is_a_status_and_a_line_for_each_problem(served: MadeUp, url: str, path: str, well: str) -> None:
    answer = ask(url, path)
    assert (answer.status, answer.text) == (200, well)
    served.shown = service_status(ready=False, healthy=False, problems=("group a: stuck", "group b:\n403"))
    answer = ask(url, path)
    assert (answer.status, answer.text) == (503, "group a: stuck\ngroup b: 403\n")
    served.shown = service_status(ready=False, healthy=False)
    assert ask(url, path).text.startswith("not ")


def test_one_that_is_not_healthy_lives_as_long_as_it_moves(served: MadeUp, url: str) -> None:
    """Who starts what does not live anew would not mend a sink, or a bucket that is gone."""
    served.shown = service_status(ready=False, healthy=False, problems=("sink archive: 401",))
    answer = ask(url, "/livez")
    assert (answer.status, answer.text) == (200, "ok\n")
    served.lives = False
    answer = ask(url, "/livez")
    assert (answer.status, answer.text) == (503, "stands still\n")


def test_one_that_starts_is_healthy_and_not_ready(served: MadeUp, url: str) -> None:
    served.shown = service_status(ready=False, problems=("group web: not listed yet",))
    assert ask(url, "/healthz").status == 200
    assert ask(url, "/readyz").status == 503


def test_the_status_is_json_with_its_verdict(url: str) -> None:
    answer = ask(url, "/status.json")
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    status = json.loads(answer.text)
    assert status["verdict"] == {"level": "well", "line": "All is well", "details": []}
    assert status["groups"][0]["objects"]["idle"] == 1220
    assert status["objects"][0]["object"] == "oss://logs/web-01.log"


def test_what_json_has_no_number_for_is_null() -> None:
    text = status_json(service_status(now=math.inf, started_at=math.nan))
    assert json.loads(text)["now"] is None
    assert json.loads(text)["groups"][0]["lag"] == 1_500_000


def test_a_status_may_hold_any_mapping_and_the_words_for_no_number() -> None:
    group = group_status(name=":NaN", objects=MappingProxyType({"idle": 3}))
    (shown,) = json.loads(status_json(service_status(groups=(group,))))["groups"]
    assert (shown["name"], shown["objects"]) == (":NaN", {"idle": 3})


def test_everything_may_be_asked_for_its_head_alone(url: str) -> None:
    for path in ("/", "/metrics", "/healthz", "/status.json"):
        answer = ask(url, path, "HEAD")
        assert (answer.status, answer.text) == (200, "")


# --- events


def test_listeners_get_a_status_at_once_and_one_each_second(served: MadeUp, url: str) -> None:
    connection = connect(url)
    connection.request("GET", "/events")
    response = connection.getresponse()
    assert response.headers["Content-Type"] == "text/event-stream"
    assert response.readline() == b"retry: 2000\n"
    assert response.readline() == b"\n"
    begun = time.monotonic()
    for version in ("0.1.0", "0.1.1", "0.1.2"):
        line = response.readline()
        served.shown = service_status(version=f"0.1.{int(version[-1]) + 1}")
        assert json.loads(line.removeprefix(b"data: "))["version"] == version
        assert response.readline() == b"\n"
    assert time.monotonic() - begun >= 1.8
    connection.close()


def test_many_listeners_cost_what_one_does_and_there_are_not_too_many(served: MadeUp, url: str) -> None:
    connections = [connect(url) for _ in range(MAX_LISTENERS + 1)]
    statuses = []
    for connection in connections:
        connection.request("GET", "/events")
        response = connection.getresponse()
        statuses.append(response.status)
        if response.status == 200:
            for _ in range(3):
                response.readline()
    assert statuses == [200] * MAX_LISTENERS + [503]
    assert served.asked < MAX_LISTENERS / 2
    for connection in connections:
        connection.close()


def test_listeners_that_went_make_room_and_cause_no_work(served: MadeUp, url: str) -> None:
    for _ in range(MAX_LISTENERS):
        assert listen_and_go(url) == 200
    wait_for(lambda: listen_and_go(url) == 200)
    wait_for(lambda: no_work_in(1.2, served))


def test_a_listener_that_takes_nothing_is_given_up(served: MadeUp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_WRITE_TIMEOUT", 0.2)
    monkeypatch.setattr(server, "_TICK", 0.01)
    monkeypatch.setattr(server, "MAX_LISTENERS", 1)
    served.shown = service_status(objects=tuple(object_status(f"{number}.log") for number in range(500)))
    with open_port(served) as url, socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        where = urlsplit(url)
        deaf.connect((where.hostname, where.port))
        deaf.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_for(lambda: served.asked > 3)
        wait_for(lambda: listen_and_go(url) == 200)


def listen_and_go(url: str) -> int:
    connection = connect(url)
    connection.request("GET", "/events")
    response = connection.getresponse()
    response.close()
    connection.close()
    return response.status


def no_work_in(seconds: float, served: MadeUp) -> bool:
    asked = served.asked
    time.sleep(seconds)
    return served.asked == asked


def wait_for(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline


def test_closing_the_port_ends_the_listening_at_once(served: MadeUp) -> None:
    with open_port(served) as url:
        connection = connect(url)
        connection.request("GET", "/events")
        response = connection.getresponse()
        response.readline()
        begun = time.monotonic()
    assert time.monotonic() - begun < 5
    assert b"data: " in response.read()
    connection.close()


@pytest.mark.parametrize("steps", range(4))
def test_a_connection_that_comes_while_the_port_closes_is_closed_too(steps: int) -> None:
    """Whether the loop knows of it yet, has accepted it, or given it to the port already."""

    async def main() -> list[dict[str, object]]:
        complaints: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        port = await serve(MadeUp(), "127.0.0.1", 0)
        connections = [socket.create_connection(("127.0.0.1", port.port)) for _ in range(5)]
        for _ in range(steps):
            await asyncio.sleep(0)
        await port.close()
        for connection in connections:
            connection.settimeout(20)
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(1) == b""
            connection.close()
        return complaints

    assert asyncio.run(main()) == []


# --- hints


def test_hints_wake_what_is_followed_and_count_the_rest(served: MadeUp, url: str) -> None:
    other = {"oss": {"bucket": {"name": "logs"}, "object": {"key": "other%20one"}}}
    answer = ask(url, "/hints", "POST", json.dumps({"events": [*EVENT["events"], other]}))
    assert (answer.status, json.loads(answer.text)) == (200, {"known": 1, "unknown": 1})
    assert served.hinted == ["oss://logs/app.log", "oss://logs/other%20one", "oss://logs/other one"]


def test_a_topic_of_the_queue_gets_the_answer_that_it_takes_for_success(url: str) -> None:
    answer = ask(url, "/hints", "POST", json.dumps(EVENT), x_mns_request_id="5FF1")
    assert (answer.status, answer.text) == (204, "")


@pytest.mark.parametrize("body", [b"", b"garbage", b"\x00" * 1000, b"[" * 200_000], ids=["empty", "words", "nul", "["])
def test_garbage_is_refused_in_one_line(served: MadeUp, url: str, body: bytes) -> None:
    answer = ask(url, "/hints", "POST", body)
    assert answer.status == 400
    assert answer.text.startswith("not a notification of OSS")
    assert answer.text.count("\n") == 1
    assert served.hinted == []


def test_a_hundred_megabytes_are_refused_before_they_are_sent(url: str) -> None:
    """Announced by their length: the answer is there after the head of the request."""
    connection = connect(url)
    connection.putrequest("POST", "/hints")
    connection.putheader("Content-Length", "100000000")
    connection.endheaders()
    answer = Answer(connection.getresponse())
    connection.close()
    assert (answer.status, answer.text) == (413, f"a body may have {MAX_BODY} bytes at most\n")
    assert answer.headers["Connection"] == "close"


def test_who_asks_first_whether_he_may_send_a_hundred_megabytes_may_not(url: str) -> None:
    answer = ask(url, "/hints", "POST", b"", Content_Length="100000000", Expect="100-continue")
    assert answer.status == 413
    assert ask(url, "/hints", "POST", json.dumps(EVENT), Expect="100-continue").status == 200


def test_a_hundred_megabytes_in_chunks_are_given_up_early(url: str) -> None:
    where = urlsplit(url)
    sent = 0
    with socket.create_connection((where.hostname, where.port), timeout=20) as connection:
        connection.sendall(b"POST /hints HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        reader = threading.Thread(target=lambda: answers.append(connection.recv(65536)))
        answers: list[bytes] = []
        reader.start()
        chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        while not answers and sent < 100_000_000:
            try:
                connection.sendall(chunk)
            except OSError:
                break
            sent += 65536
        reader.join()
    assert answers[0].startswith(b"HTTP/1.1 413 ")
    assert sent < 50_000_000


def test_a_body_that_does_not_come_is_not_waited_for(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_BODY_TIMEOUT", 0.1)
    connection = connect(url)
    connection.putrequest("POST", "/hints")
    connection.putheader("Content-Length", "10")
    connection.endheaders(b"{")
    answer = Answer(connection.getresponse())
    connection.close()
    assert (answer.status, answer.text) == (408, "the body did not come\n")
    assert answer.headers["Connection"] == "close"


def test_hints_can_be_left_out() -> None:
    async def main() -> int:
        port = await serve(MadeUp(), "127.0.0.1", 0, hints=False)
        try:
            return (await asyncio.to_thread(ask, f"http://127.0.0.1:{port.port}", "/hints", "POST", b"{}")).status
        finally:
            await port.close()

    assert asyncio.run(main()) == 404


# --- who may ask what


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:9465", 200),
        ("127.0.0.1", 200),
        ("[::1]:9465", 200),
        ("[::1]", 200),
        ("10.1.2.3:9465", 200),
        ("oss-tailer:9465", 200),
        ("tail.localhost", 200),
        ("oss-tailer.logs.svc.cluster.local:9465", 200),
        ("oss-tailer.logs.svc", 200),
        ("vm.europe.internal.", 200),
        ("evil.example:9465", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example:9465", 421),
        ("a.local.evil.example", 421),
        ("evil.example:", 421),
        ("[evil]", 421),
        ("a b", 421),
    ],
)
def test_names_that_a_stranger_can_own_get_nothing(url: str, host: str, status: int) -> None:
    answer = ask(url, "/status.json", Host=host)
    assert answer.status == status
    assert ("groups" in answer.text) == (status == 200)


def test_a_page_of_somebody_else_sends_no_hints(served: MadeUp, url: str) -> None:
    assert ask(url, "/hints", "POST", json.dumps(EVENT), Sec_Fetch_Site="cross-site").status == 403
    assert served.hinted == []
    assert ask(url, "/hints", "POST", json.dumps(EVENT), Sec_Fetch_Site="same-origin").status == 200


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/metrics", "GET,HEAD"),
        ("GET", "/hints", "POST"),
        ("DELETE", "/", "GET,HEAD"),
        ("PUT", "/events", "GET"),
    ],
)
def test_other_methods_are_not_allowed(url: str, method: str, path: str, allowed: str) -> None:
    answer = ask(url, path, method)
    assert (answer.status, answer.headers["Allow"], answer.text) == (405, allowed, f"this takes {allowed}\n")


def test_nothing_is_kept_shown_elsewhere_or_read_from_elsewhere(url: str) -> None:
    for path in ("/", "/metrics", "/status.json", "/healthz", "/nothing-here", "/hints"):
        headers = ask(url, path).headers
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert "aiohttp" not in headers["Server"]
        assert not [name for name in headers if name.lower().startswith("access-control-")]


def test_what_is_no_http_is_refused_and_fills_no_log(url: str, caplog: pytest.LogCaptureFixture) -> None:
    where = urlsplit(url)
    for garbage in (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"GET / HTTP/9.9\r\nA\x00: b\r\n\r\n", b"x" * 100_000):
        with caplog.at_level(logging.DEBUG), socket.create_connection((where.hostname, where.port), 20) as connection:
            connection.sendall(garbage)
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(12) in (b"HTTP/1.0 400", b"HTTP/1.1 400", b"")
    assert ask(url, "/healthz").status == 200
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []


# --- opening it


def test_a_port_that_is_taken_is_said_in_one_line(url: str) -> None:
    port = urlsplit(url).port
    assert port is not None
    with pytest.raises(
        ConfigError, match=rf"^cannot serve on 127\.0\.0\.1:{port}: Address already in use \(.*listen.*\)$"
    ):
        asyncio.run(serve(MadeUp(), "127.0.0.1", port))


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "no-such-host.invalid"])
def test_an_address_that_is_not_ours_is_said_in_one_line(host: str) -> None:
    with pytest.raises(ConfigError, match=r"^cannot serve on \S*:9465: [^\n]+$"):
        asyncio.run(serve(MadeUp(), host, 9465))


def test_without_aiohttp_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "tailer.web.server")
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(ConfigError, match=r"pip install 'oss-tail\[service\]'"):
        asyncio.run(serve(MadeUp(), "127.0.0.1", 0))
