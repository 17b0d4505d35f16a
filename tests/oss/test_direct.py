"""What only our own HTTP has to decide: framing of answers, the life of connections, memory used again."""

import asyncio
import socket
import threading
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailer import errors
from tailer.oss.direct import DirectTransport, _Buffers, _Head
from tailer.oss.transport import Timeouts, open_transport


def talk(wire, replies, *methods, limit=1 << 20, body=None):
    """Answers to one request after another over one transport, and how many connections they took."""

    async def main():
        async with wire.serving(*replies) as server:
            transport = open_transport("direct", timeouts=Timeouts(2, 2))
            answers = []
            for method in methods:
                try:
                    async with transport.open(method, server.url, {}, body) as response:
                        answers.append((response.status, bytes(await response.read(limit))))
                except errors.TailerError as error:
                    answers.append(error)
            await transport.aclose()
            return answers, server

    return asyncio.run(main())


def chunked(*lines):
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(line + b"\r\n" for line in lines)


# --- bodies


def test_a_chunked_body_with_extensions_and_trailers(wire):
    body = chunked(b"5;name=value", b"01234", b"0A", b"abcdefghij", b"0", b"Trailer: x", b"")
    answers, server = talk(wire, [body], "GET", "GET")
    assert answers == [(200, b"01234abcdefghij")] * 2
    assert server.connections == 1


def test_of_a_chunked_body_only_so_much_is_read(wire):
    answers, server = talk(wire, [chunked(b"5", b"01234", b"5", b"56789", b"0", b"")], "GET", "GET", limit=7)
    assert answers == [(200, b"0123456")] * 2
    assert server.connections == 2


@pytest.mark.parametrize(
    "lines",
    [(b"no number", b"01234"), (b"5", b"0123456"), (b"-5", b"01234"), (b"5", b"01234", b"0 0", b""), (b"F" * 16, b"0")],
)
def test_a_chunked_body_that_is_none(wire, lines):
    answers, _ = talk(wire, [wire.reply(chunked(*lines), close=True)], "GET")
    assert [type(answer) for answer in answers] == [errors.ConnectionLost]


def test_a_body_up_to_the_end_of_the_connection(wire):
    answers, server = talk(wire, [wire.reply(b"HTTP/1.1 200 OK\r\n\r\nto the end", close=True)], "GET", "GET")
    assert answers == [(200, b"to the end")] * 2
    assert server.connections == 2


def test_interim_answers_are_left_out(wire):
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    answers, _ = talk(wire, [interim + wire.answer(200, {}, b"then")], "GET")
    assert answers == [(200, b"then")]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n" * 100,
        chunked(b"5", b"01234", b"0", *[b"Trailer: x"] * 100, b""),
    ],
    ids=["answers before the answer", "trailers"],
)
def test_what_does_not_end_is_not_waited_for(wire, answer):
    """Each line comes in time, so no time-out would end it."""
    answers, _ = talk(wire, [wire.reply(answer, hold=True)], "GET")
    assert [type(answer) for answer in answers] == [errors.ConnectionLost]


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 30,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked",
        b"HTTP/1.1 200 OK\r\nno field",
        b"HTTP/1.1 200 OK\r\nname : value",
        b"HTTP/1.1 200 OK\r\nname: value\r\n folded",
        b"HTTP/2 200 OK",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70000,
    ],
)
def test_a_head_that_is_not_understood_is_refused(wire, head):
    """Guessing where a body ends would mix up two answers (RFC 9112, 11.2)."""
    answers, _ = talk(wire, [head + b"\r\n\r\n012345"], "GET")
    assert [type(answer) for answer in answers] == [errors.ConnectionLost]


@given(st.binary(max_size=200))
def test_no_head_is_too_strange(data):
    """OSError is the only refusal."""
    try:
        head = _Head(data)
        said = head.status, head.chunked, head.length
    except OSError:
        return
    assert 100 <= said[0] <= 999


# --- the life of a connection


def test_one_connection_serves_many_requests(wire):
    """The answer to a HEAD names a length and has no body."""
    whole, head_only = wire.answer(200, {}, b"body"), wire.answer(200, {}, length=4)
    answers, server = talk(wire, [whole, head_only, whole], "GET", "HEAD", "GET", limit=4)
    assert answers == [(200, b"body"), (200, b""), (200, b"body")]
    assert server.connections == 1


def test_an_empty_answer_that_nobody_reads_leaves_the_connection_usable(wire):
    """As the answer to an append is: a new connection for each would cost as much as the append."""

    async def main():
        async with wire.serving(wire.answer(200, {}, b"")) as server:
            transport = open_transport("direct", timeouts=Timeouts(2, 2))
            for _ in range(3):
                async with transport.open("POST", server.url, {}, b"data") as response:
                    assert response.status == 200
            await transport.aclose()
            return server.connections

    assert asyncio.run(main()) == 1


def test_bytes_behind_an_answer_cost_the_connection(wire):
    """They would be taken for the answer to the next request."""
    forged = wire.answer(200, {}, b"right") + wire.answer(200, {}, b"wrong")
    answers, server = talk(wire, [forged, wire.answer(200, {}, b"right")], "GET", "GET")
    assert answers == [(200, b"right")] * 2
    assert server.connections == 2


def test_a_body_that_is_not_read_costs_the_connection(wire):
    answers, server = talk(wire, [wire.answer(200, {}, bytes(100_000))], "GET", "GET", limit=10)
    assert answers == [(200, bytes(10))] * 2
    assert server.connections == 2


@pytest.mark.parametrize("header", [{"Connection": "close"}, {"Connection": "keep-alive, Close"}])
def test_a_connection_that_is_to_be_closed_is_not_used_again(wire, header):
    answers, server = talk(wire, [wire.answer(200, header, b"x")], "GET", "GET")
    assert answers == [(200, b"x")] * 2
    assert server.connections == 2


def test_a_connection_closed_while_idle_is_not_used_again(wire):
    """Not for a request that must not be sent twice either."""
    reply = wire.reply(wire.answer(200, {}, b"x"), close=True)

    async def main():
        async with wire.serving(reply) as server:
            transport = open_transport("direct")
            for _ in range(3):
                async with transport.open("POST", server.url, {}, b"data") as response:
                    await response.read(10)
                await asyncio.sleep(0.05)
            await transport.aclose()
            return len(server.requests), server.connections

    assert asyncio.run(main()) == (3, 3)


def test_connections_of_a_busy_moment_are_given_up_when_they_rested_for_long(wire, monkeypatch):
    """Though others are always at hand, which are used in their stead."""
    monkeypatch.setattr("tailer.oss.direct.IDLE_SECONDS", 0.2)

    async def main():
        async with wire.serving(wire.answer(200, {}, b"x")) as server:
            transport = DirectTransport(Timeouts(2, 2))

            async def ask():
                async with transport.open("GET", server.url, {}) as response:
                    await asyncio.sleep(0.01)
                    return await response.read(10)

            await asyncio.gather(*(ask() for _ in range(5)))
            most = len(transport._open)
            async with asyncio.timeout(10):
                while len(transport._open) > 1:
                    assert await ask() == b"x"
            await transport.aclose()
            return most, server.connections

    assert asyncio.run(main()) == (5, 5)


def test_what_changes_nothing_is_sent_again_when_an_idle_connection_ends_without_a_word(wire):
    replies = [wire.answer(200, {}, b"x"), wire.reply(b"", reset=True), wire.answer(200, {}, b"y")]
    answers, server = talk(wire, replies, "GET", "GET")
    assert answers == [(200, b"x"), (200, b"y")]
    assert (len(server.requests), server.connections) == (3, 2)


def test_an_append_is_never_sent_twice(wire):
    """Whether it was done is not known, and the caller must be told so."""
    replies = [wire.answer(200, {}, b"x"), wire.reply(b"", reset=True), wire.answer(200, {}, b"y")]
    answers, server = talk(wire, replies, "POST", "POST", body=b"data")
    assert answers[0] == (200, b"x")
    assert type(answers[1]) is errors.ConnectionLost
    assert len(server.requests) == 2


def test_half_an_answer_is_not_asked_for_again(wire):
    replies = [wire.answer(200, {}, b"x"), wire.reply(b"HTTP/1.1 2", close=True), wire.answer(200, {}, b"y")]
    answers, server = talk(wire, replies, "GET", "GET")
    assert type(answers[1]) is errors.ConnectionLost
    assert len(server.requests) == 2


def test_a_refusal_before_the_end_of_an_upload_is_heard(wire):
    """A server that does not want the body says so and closes."""

    async def refuse(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(wire.answer(413, {"Connection": "close"}, b"too much"))
        await writer.drain()
        await asyncio.sleep(0.2)

    async def main():
        async with wire.listening(refuse) as port:
            transport = open_transport("direct", timeouts=Timeouts(2, 2))
            async with transport.open("POST", f"http://127.0.0.1:{port}/", {}, bytes(64 << 20)) as response:
                said = response.status, bytes(await response.read(100))
            await transport.aclose()
            return said

    assert asyncio.run(main()) == (413, b"too much")


def test_a_refusal_before_the_end_of_an_upload_costs_the_connection(wire):
    """A server that says nothing of closing takes what comes next for the rest of that body."""
    connections = 0

    async def refuse(reader, writer):
        nonlocal connections
        connections += 1
        while head := await reader.readuntil(b"\r\n\r\n"):
            writer.write(wire.answer(403, {}, b"no") if head.startswith(b"POST") else wire.answer(200, {}, b"yes"))
            await writer.drain()
            if head.startswith(b"POST"):
                await reader.readexactly(64 << 20)

    async def main():
        async with wire.listening(refuse) as port:
            transport = open_transport("direct", timeouts=Timeouts(2, 2))
            said = []
            for method, body in (("POST", bytes(64 << 20)), ("GET", None)):
                async with transport.open(method, f"http://127.0.0.1:{port}/", {}, body) as response:
                    said.append((response.status, bytes(await response.read(100))))
            await transport.aclose()
            return said

    assert asyncio.run(main()) == [(403, b"no"), (200, b"yes")]
    assert connections == 2


def test_an_upload_that_was_sent_whole_leaves_the_connection_usable(wire):
    answers, server = talk(wire, [wire.answer(200, {}, b"x")], "POST", "POST", body=bytes(1 << 20))
    assert answers == [(200, b"x")] * 2
    assert server.connections == 1


def test_an_end_while_the_last_of_an_upload_leaves_is_a_lost_connection():
    """The loop sees both at once: that nobody will answer, and that there is room for all that was left to send."""
    listener = socket.create_server(("127.0.0.1", 0))
    is_stuck, is_drained = threading.Event(), threading.Event()

    def drain():
        connection, _ = listener.accept()
        is_stuck.wait(30)
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(0.5)
        with suppress(TimeoutError):
            while connection.recv(1 << 20):
                pass
        is_drained.set()
        connection.recv(1)
        connection.close()

    async def main():
        transport = DirectTransport(Timeouts(5, 5))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        sending = asyncio.create_task(transport.open("POST", url, {}, bytes(64 << 20)).__aenter__())
        while not any(one._transport.get_write_buffer_size() for one in transport._open):  # noqa: ASYNC110 - has no event
            await asyncio.sleep(0)
        is_stuck.set()
        is_drained.wait(30)
        try:
            with pytest.raises(errors.ConnectionLost):
                await sending
        finally:
            await transport.aclose()

    with listener:
        server = threading.Thread(target=drain)
        server.start()
        asyncio.run(main())
        server.join()


# --- memory


def test_memory_is_used_again_when_nobody_looks_at_it():
    buffers = _Buffers()
    first = buffers.take(1 << 20)
    first[:5] = b"first"
    part = first.toreadonly()[:5]
    del first
    second = buffers.take(1 << 20)
    second[:5] = b"other"
    assert bytes(part) == b"first"
    owners = {id(part.obj), id(second.obj)}
    del part, second
    assert id(buffers.take(1 << 20).obj) in owners


def test_memory_that_is_looked_at_for_long_does_not_stand_in_the_way():
    """Whoever keeps many windows gets as many buffers."""
    buffers = _Buffers()
    kept = [buffers.take(1 << 18) for _ in range(40)]
    for number, view in enumerate(kept):
        view[:] = bytes([number]) * len(view)
    assert [view[7] for view in kept] == list(range(40))
    assert len({id(view.obj) for view in kept}) == 40


def test_memory_that_nobody_takes_is_let_go_after_ten_seconds():
    """Of a burst only as much stays as is taken again and again."""
    now = 0.0
    buffers = _Buffers(lambda: now)
    burst = [buffers.take(4 << 20) for _ in range(8)]
    del burst
    for second in range(10):
        now = float(second)
        buffers.take(1 << 20)
        buffers.let_go()
    assert sum(len(buffer) for _, buffer in buffers._kept) == 32 << 20
    now = 10.0
    buffers.let_go()
    assert sum(len(buffer) for _, buffer in buffers._kept) == 4 << 20


def test_of_the_memory_that_suffices_the_smallest_is_used_and_of_several_the_one_used_last():
    buffers = _Buffers(lambda: 0.0)
    views = [buffers.take(size << 20) for size in (1, 4, 2, 2)]
    owners = [id(view.obj) for view in views]
    del views
    assert id(buffers.take(3 << 19).obj) == owners[3]
    assert id(buffers.take(3 << 20).obj) == owners[1]
    assert id(buffers.take(1 << 20).obj) == owners[0]


def test_memory_of_a_body_is_let_go_by_later_requests(wire, monkeypatch):
    """As those are polls, a follower of an object that rests holds no window."""

    async def main():
        async with wire.serving(wire.answer(200, {}, b"x" * 262144), wire.answer(200, {}, b"")) as server:
            transport = DirectTransport(Timeouts(2, 2))
            async with transport.open("GET", server.url, {}) as response:
                assert len(await response.read(1 << 20)) == 262144
            assert len(transport._buffers._kept) == 1
            monkeypatch.setattr("tailer.oss.direct._KEPT_SECONDS", 0.0)
            async with transport.open("HEAD", server.url, {}):
                pass
            assert not transport._buffers._kept
            await transport.aclose()

    asyncio.run(main())
