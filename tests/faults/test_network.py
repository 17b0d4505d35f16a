"""What happens when the network fails: no answer, half an answer, a late one, or somebody else's."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tailer.core.events import Failed
from tailer.errors import RequestTimeout
from tailer.local import Fault
from tests.faults.conftest import TEXT, library_only, read_impatiently, writing
from tests.faults.proxy import Conduct

if TYPE_CHECKING:
    from tailer.oss.transport import Kind
    from tests.faults.conftest import Faulty
    from tests.faults.proxy import Proxy


def test_reset_before_the_answer(tail: Faulty) -> None:
    """It is said, tried again, and goes on."""
    tail.suffers(Fault("reset", count=1))
    done = tail.reads()
    assert done[:2] == (0, TEXT)
    assert done.stderr.startswith(f"oss-tail: '{tail.address}': the connection to 127.0.0.1:")
    assert done.stderr.endswith(" broke: Connection reset by peer; trying again\n")


@pytest.mark.parametrize(("kind", "at"), [("reset", 5), ("cut", 0), ("cut", 5), ("cut", len(TEXT) - 1)])
def test_body_that_breaks_off(tail: Faulty, kind: str, at: int) -> None:
    """What came of it is thrown away whole: the output has every byte once."""
    tail.suffers(Fault(kind, operation="GetObject", at=at, count=1))
    done = tail.reads()
    assert done[:2] == (0, TEXT)
    assert tail.suffered == 1
    assert done.stderr.count("; trying again\n") == done.stderr.count("\n") == 1


def test_body_that_always_breaks_off(tail: Faulty) -> None:
    """A reading that is no follow gives up after four tries, exit 1; nothing half is output."""
    tail.suffers(Fault("cut", operation="GetObject", at=5))
    done = tail.reads()
    assert done[:2] == (1, b"")
    assert tail.suffered == 4
    first, last = done.stderr.splitlines()
    assert first.endswith("; trying again")
    assert last.startswith(f"oss-tail: error reading '{tail.address}': the connection to 127.0.0.1:")


def test_bodies_that_break_off_while_the_object_grows(tail: Faulty) -> None:
    """A follow goes on for ever; every appended byte comes once."""
    tail.suffers(Fault("cut", operation="GetObject", at=3, probability=0.2, count=4))
    with tail.follows() as running, writing(tail) as writer:
        writer.join()
        running.wait_for_output(tail.server.store.read("bucket", tail.key))


def test_catch_up_over_a_line_that_breaks(tail: Faulty) -> None:
    """Many windows, several under way at once, some cut: all of it, in order."""
    data = bytes(range(256)) * 20_000
    tail.holds(data)
    tail.suffers(Fault("cut", operation="GetObject", at=100_000, after=1, count=3))
    done = tail.reads()
    assert done[:2] == (0, data)


def test_slow_body(tail: Faulty) -> None:
    """A trickle is not a failure: it is awaited, without a word."""
    tail.suffers(Fault("slow", operation="GetObject", rate=20.0))
    assert tail.reads() == (0, TEXT, "")


@library_only
@pytest.mark.parametrize("at", [None, 5])
def test_stall(tail: Faulty, transport: Kind, at: int | None) -> None:
    """Silence for longer than the read time-out ends the request, and it is made anew."""
    tail.suffers(Fault("stall", operation="GetObject", at=at, seconds=5.0, count=1))
    heard = asyncio.run(read_impatiently(tail, transport, 0.3))
    assert heard.data == TEXT
    (failed,) = (event for event in heard.events if isinstance(event, Failed))
    assert isinstance(failed.error, RequestTimeout)


@library_only
def test_peer_that_vanished(tail: Faulty, transport: Kind, proxy: Proxy) -> None:
    """A half-open connection: the request is taken, and nothing ever comes back."""
    proxy.misbehave(Conduct.SILENT)
    heard = asyncio.run(read_impatiently(tail, transport, 0.3))
    assert heard.data == TEXT
    (failed,) = (event for event in heard.events if isinstance(event, Failed))
    assert isinstance(failed.error, RequestTimeout)


def test_unknown_host(tail: Faulty) -> None:
    """Not retried for long in a reading: one line that names the host, exit 1."""
    tail.environment["OSS_ENDPOINT"] = "http://no-such-host.invalid"
    done = tail.reads()
    assert done[:2] == (1, b"")
    line = done.stderr.splitlines()[-1]
    assert line.startswith(f"oss-tail: error reading '{tail.address}': cannot connect to bucket.no-such-host.invalid: ")
    assert line.endswith("(check the endpoint and the network)")


def test_connection_refused_then_back(tail: Faulty, proxy: Proxy) -> None:
    """A follow outlives its server: said once, then it goes on where it was."""
    with tail.follows() as running:
        running.wait_for_output(TEXT)
        proxy.close()
        running.wait_for_words("Connection refused")
        tail.grows(b"four\n")
        proxy.open()
        running.wait_for_output(TEXT + b"four\n")
        assert running.stderr.count("Connection refused") == 1


def test_connection_refused_from_the_start(tail: Faulty, proxy: Proxy) -> None:
    """-F waits for the service as it waits for the object."""
    proxy.close()
    with tail.follows() as running:
        running.wait_for_words("Connection refused")
        proxy.open()
        running.wait_for_output(TEXT)


def test_connection_closed_while_idle(tail: Faulty, proxy: Proxy) -> None:
    """Servers close connections that rest; at most a line says so, and the next poll takes another one."""
    with tail.follows() as running:
        running.wait_for_output(TEXT)
        for number in range(5):
            proxy.cut()
            tail.grows(b"%d\n" % number)
            running.wait_for_output(TEXT + b"".join(b"%d\n" % n for n in range(number + 1)))


@pytest.mark.parametrize("conduct", [Conduct.HANG_UP, Conduct.HALF_A_HEAD, Conduct.NONSENSE], ids=lambda c: c.name)
def test_half_an_answer(tail: Faulty, proxy: Proxy, conduct: Conduct) -> None:
    """Half an answer is none."""
    proxy.misbehave(conduct, times=2)
    done = tail.reads()
    assert done[:2] == (0, TEXT)
    assert proxy.behaves


def test_answer_in_single_bytes(tail: Faulty, proxy: Proxy) -> None:
    """Where the network cuts is nobody's concern."""
    proxy.misbehave(Conduct.SINGLE_BYTES, times=10)
    assert tail.reads() == (0, TEXT, "")


def test_bytes_behind_the_answer(tail: Faulty, proxy: Proxy) -> None:
    """As of a server that answers HEAD with a body: they belong to nothing, and the next answer is another one."""
    proxy.misbehave(Conduct.SPEAKS_ON, times=1000)
    with tail.follows() as running:
        running.wait_for_output(TEXT)
        tail.grows(b"four\n")
        running.wait_for_output(TEXT + b"four\n")


def test_forged_answer_behind_the_answer(tail: Faulty, transport: Kind, proxy: Proxy) -> None:
    """A 206 that nobody asked for, well formed and for the right range: only httpx looks at it.

    httpx takes it for the answer to its next request; without the CRC-64 of its object it is not believed.
    """
    proxy.misbehave(Conduct.FORGES, times=1000)
    done = tail.reads()
    assert done[:2] == ((0, TEXT) if transport != "httpx" else (3, b""))
