"""`HttpPost`, over real sockets and both transports: what is sent, and what each answer means."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest

from tailer.core.events import Batch, Gone, Rewound
from tailer.core.position import ObjectRef
from tailer.errors import SinkBusy, SinkError, UsageError
from tailer.oss.transport import Kind, Timeouts, open_transport
from tailer.sinks.http import HttpPost, parts
from tailer.sinks.retry import Retrying
from tests.garbage import collecting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

REF = ObjectRef("logs", 'a b/日"\r\n%.log')


def batch(data: bytes, start: int = 0, *, delimiter: bytes | None = b"\n", **changes: Any) -> Batch:
    return replace(Batch(REF, 2, start, start + len(data), data, verified=True, delimiter=delimiter), **changes)


@dataclass
class Server:
    """Answers the n-th request with the n-th status, the last one for ever; None says nothing at all."""

    answers: list[int | None]
    headers: str = ""
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    connections: int = 0
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while await self._answered(reader, writer):
                pass
        writer.close()

    async def _answered(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self.requests.append((first, headers, await reader.readexactly(int(headers["content-length"]))))
        status = self.answers[min(len(self.requests), len(self.answers)) - 1]
        if status is None:
            await reader.read()
            return False
        if status == 0:
            return False
        body = "" if status == 204 else "Content-Length: 5\r\n"
        writer.write(f"HTTP/1.1 {status} Reason\r\n{self.headers}{body}\r\n{'' if status == 204 else 'hello'}".encode())
        await writer.drain()
        return True


@contextlib.asynccontextmanager
async def serving(*answers: int | None, headers: str = "") -> AsyncIterator[Server]:
    server = Server(list(answers), headers)
    tasks: list[tuple[asyncio.StreamWriter, asyncio.Task[None]]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.append((writer, task))
        await server.serve(reader, writer)

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listener.close()
        for writer, _ in tasks:
            writer.transport.abort()
        await asyncio.gather(*(task for _, task in tasks))
        await asyncio.sleep(0)  # the transports close in the loop's next round
        await listener.wait_closed()


@pytest.fixture(params=["direct", "fast", "httpx"])
def kind(request: pytest.FixtureRequest) -> Kind:
    """Every test that asks for it runs over both transports."""
    return request.param  # type: ignore[no-any-return]


@contextlib.asynccontextmanager
async def posting(server: Server, kind: Kind, path: str = "/in?token=hush", **options: Any) -> AsyncIterator[HttpPost]:
    transport = open_transport(kind, timeouts=Timeouts(1.0, 0.3), proxies=False)
    sink = HttpPost(server.url + path, transport=transport, **options)
    try:
        yield sink
    finally:
        await sink.close()
        await transport.aclose()


def test_a_batch_is_one_post_that_says_what_it_is(kind: Kind) -> None:
    async def run() -> None:
        async with serving(200, 204) as server, posting(server, kind, headers={"Authorization": "Bearer t"}) as sink:
            await sink.write(batch(b"one\n\xff\0", 7))
            await sink.notice(Gone(2, 13))
            await sink.write(batch(b"two\n", 13))
        (line, headers, body), (_, _, second) = server.requests
        assert line == "POST /in?token=hush HTTP/1.1"
        assert (body, second) == (b"one\n\xff\0", b"two\n")
        assert unquote(headers["x-oss-tail-object"]) == str(REF)
        assert headers["x-oss-tail-object"].isascii()
        place = [headers[f"x-oss-tail-{name}"] for name in ("generation", "start", "end")]
        assert place == ["2", "7", "13"]
        assert headers["content-type"] == "application/octet-stream"
        assert headers["authorization"] == "Bearer t"
        assert server.connections == 1, "the answer is read, so that its connection can be used again"

    asyncio.run(run())


def test_json_lines_on_request(kind: Kind) -> None:
    async def run() -> None:
        async with serving(200) as server, posting(server, kind, body="jsonl") as sink:
            await sink.write(batch(b"one\ntwo\n"))
        [(_, headers, body)] = server.requests
        assert [json.loads(line)["data"] for line in body.splitlines()] == ["one", "two"]
        assert headers["content-type"] == "application/x-ndjson"

    asyncio.run(run())


def test_the_idempotency_key_is_the_same_for_the_same_bytes_in_the_same_place_alone() -> None:
    """A rewind brings other bytes in the same place, which nobody may take for a repetition."""
    here = batch(b"one\n", 7)
    others = [
        batch(b"two\n", 7),
        batch(b"one\n", 8),
        batch(b"one\n", 7, generation=3),
        batch(b"one\n", 7, object=ObjectRef("logs", "b")),
    ]

    async def run() -> None:
        async with serving(200) as server, posting(server, "httpx") as sink:
            for one in [here, here, *others]:
                await sink.write(one)
        keys = [headers["idempotency-key"] for _, headers, _ in server.requests]
        assert keys[0] == keys[1] == "1f17f9d7ff8407f82da375eb0dc5485e", "it may not change with a release either"
        assert len(set(keys)) == 1 + len(others)

    asyncio.run(run())


@pytest.mark.parametrize("status", [301, 302, 304, 400, 401, 404, 413])
def test_a_redirect_and_a_refusal_stop(kind: Kind, status: int) -> None:
    async def run() -> None:
        async with serving(status, headers="Location: /elsewhere\r\n") as server, posting(server, kind) as sink:
            with pytest.raises(SinkError) as caught:
                await sink.write(batch(b"x"))
        assert not caught.value.retriable
        assert f"POST to {server.url}/in was answered with status {status}" in str(caught.value)
        assert "hush" not in str(caught.value)
        assert ("redirects are not followed" in str(caught.value)) == (status < 400)
        assert len(server.requests) == 1

    asyncio.run(run())


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_a_server_that_cannot_now_gets_the_same_request_again(kind: Kind, status: int) -> None:
    async def run() -> None:
        async with serving(status, status, 200) as server, posting(server, kind) as sink:
            await Retrying(sink, sleep=lambda _: asyncio.sleep(0)).write(batch(b"one\n"))
        assert len(server.requests) == 3
        assert len({(headers["idempotency-key"], body) for _, headers, body in server.requests}) == 1

    asyncio.run(run())


@pytest.mark.parametrize("answer", [None, 0], ids=["silence", "hang-up"])
def test_no_answer_is_tried_again(kind: Kind, answer: int | None) -> None:
    async def run() -> None:
        async with serving(answer, 200) as server, posting(server, kind) as sink:
            with pytest.raises(SinkBusy, match=r"^POST to http://127") as caught:
                await sink.write(batch(b"one\n"))
            assert "hush" not in str(caught.value)
            await sink.write(batch(b"one\n"))
        assert len(server.requests) == 2

    asyncio.run(run())


@pytest.mark.parametrize("answer", [503, 0])
def test_a_refused_batch_is_left_to_no_garbage_collector(answer: int) -> None:
    """It would be held until that comes, again and again, for each receiver that is away for a while."""

    async def main() -> None:
        async with serving(*[answer] * 5, 200) as server, posting(server, "direct") as sink:
            retrying = Retrying(sink, sleep=lambda _: asyncio.sleep(0))
            with collecting() as left:
                await retrying.write(batch(b"data\n"))
            assert left == []
            assert len(server.requests) == 6

    asyncio.run(main())


def test_nobody_there_is_tried_again(kind: Kind) -> None:
    async def run() -> None:
        async with serving(200) as server:
            pass
        async with posting(server, kind) as sink:
            with pytest.raises(SinkBusy, match="refused"):
                await sink.write(batch(b"x"))

    asyncio.run(run())


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("120", 120.0),
        ("99999999999999999999", 3600.0),
        ("-1", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", None),
        ("", None),
    ],
)
def test_retry_after_is_respected_within_an_hour(said: str, seconds: float | None) -> None:
    slept: list[float] = []

    class Told:
        async def sleep(self, pause: float) -> None:
            slept.append(pause)

    async def run() -> None:
        headers = f"Retry-After: {said}\r\n" if said else ""
        async with serving(503, 200, headers=headers) as server, posting(server, "httpx") as sink:
            await Retrying(sink, sleep=Told().sleep).write(batch(b"x"))

    asyncio.run(run())
    if seconds is None:
        assert slept[0] < 1
    else:
        assert slept == [seconds]


def test_of_a_large_batch_those_parts_come_again_that_were_not_taken(kind: Kind) -> None:
    async def run() -> None:
        async with serving(200, 503, 200) as server, posting(server, kind, largest_body=10) as sink:
            await Retrying(sink, sleep=lambda _: asyncio.sleep(0)).write(batch(b"one\ntwo\nthree\n", 100))
            assert not sink._taken
        sent = [(headers["x-oss-tail-start"], headers["idempotency-key"], body) for _, headers, body in server.requests]
        assert [body for _, _, body in sent] == [b"one\ntwo\n", b"three\n", b"three\n"]
        assert sent[1] == sent[2]
        assert [start for start, _, _ in sent[:2]] == ["100", "108"]

    asyncio.run(run())


def test_all_parts_come_again_after_a_rewind(kind: Kind) -> None:
    """Others may have been sent for the same place meanwhile."""

    async def run() -> None:
        async with serving(200, 503, 200) as server, posting(server, kind, largest_body=10) as sink:
            with pytest.raises(SinkBusy):
                await sink.write(batch(b"one\ntwo\nthree\n"))
            await sink.notice(Rewound(0, 0, 14))
            await sink.write(batch(b"one\ntwo\nthree\n"))
        assert [body for _, _, body in server.requests] == [b"one\ntwo\n", b"three\n"] * 2

    asyncio.run(run())


@pytest.mark.parametrize(
    ("data", "delimiter", "sizes"),
    [
        (b"", b"\n", [0]),
        (b"1234567890", b"\n", [10]),
        (b"12345678901", b"\n", [10, 1]),
        (b"123\n567\n90123\n", b"\n", [8, 6]),
        (b"123\n5678901234567\n9", b"\n", [4, 10, 5]),
        (b"123\n567\n90123\n", None, [10, 4]),
        (b"12345678\r\n12\r\n", b"\r\n", [10, 4]),
        (b"123456789\r\n12\r\n", b"\r\n", [10, 5]),
    ],
)
def test_parts_are_cut_at_records_and_lose_nothing(data: bytes, delimiter: bytes | None, sizes: list[int]) -> None:
    whole = batch(data, 50, delimiter=delimiter, first=False)
    cut = list(parts(whole, 10))
    assert [len(part.data) for part in cut] == sizes
    assert b"".join(bytes(part.data) for part in cut) == data
    assert [part.end - part.start for part in cut] == sizes
    assert (cut[0].start, cut[-1].end) == (whole.start, whole.end)
    assert (cut[0].first, cut[-1].last) == (whole.first, whole.last)
    assert all(one.last == other.first for one, other in pairwise(cut))


@pytest.mark.parametrize(
    ("url", "options", "why"),
    [
        ("ftp://host/", {}, "http://"),
        ("host/in", {}, "http://"),
        ("http:///in", {}, "names a host"),
        ("http://host:port/", {}, "cannot be read"),
        ("http://user:hush@host/", {}, "holds a password"),
        ("http://host/", {"headers": {"Idempotency-KEY": "1"}}, "set by the sink"),
        ("http://host/", {"headers": {"x-oss-tail-start": "1"}}, "set by the sink"),
        ("http://host/", {"largest_body": 0}, "at least 1"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_sent(url: str, options: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why) as caught:
        HttpPost(url, **options)
    assert "hush" not in str(caught.value)


def test_a_header_that_no_request_can_carry_is_not_tried_again(kind: Kind) -> None:
    async def run() -> None:
        async with serving(200) as server, posting(server, kind, headers={"X-Bad": "a\r\nb"}) as sink:
            with pytest.raises(SinkError) as caught:
                await sink.write(batch(b"x"))
        assert not caught.value.retriable
        assert server.requests == []

    asyncio.run(run())


def test_a_transport_of_its_own_is_closed(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSS_TAIL_TRANSPORT", kind)

    async def run() -> None:
        async with serving(200) as server:
            sink = HttpPost(server.url)
            await sink.write(batch(b"x"))
            await sink.close()
        assert len(server.requests) == 1

    asyncio.run(run())
