"""Random actions against `Tail`, on a simulated clock, checked against a toy world after every step.

The claims, whatever is appended, replaced, truncated, deleted, re-created, sealed, spoilt on the way, refused
by the sink, or lost in a crash:

1. what the mark calls verified is a true prefix of an object that stood under the name;
2. every byte under the delivered mark reached the sink, in order: no gap, and no overlap but what a `Rewound`
   event or a crash announced;
3. what was said to be verified was handed out, all of it, before the word of the next object under the name;
4. once the world is still and honest, the sink holds exactly the object.
"""

from __future__ import annotations

import os
import random
from collections import deque

import pytest

from tailer import errors
from tailer.core import crc64
from tailer.core.events import (
    Appeared,
    Batch,
    Cancel,
    Fetch,
    Head,
    Receive,
    Replaced,
    Rewound,
    Stop,
    Truncated,
    Verified,
    Wait,
)
from tailer.core.options import Follow, Poll, TailOptions
from tailer.core.position import Mark, ObjectRef
from tailer.core.ranges import ByteRange
from tailer.core.schedule import Pace
from tailer.core.tail import Tail
from tests.model.world import Answer, World

STEPS = int(os.environ.get("MODEL_STEPS", "120000"))
RUN = 400
SHARDS = 4


class Sink:
    """Keeps the bytes of each generation, as a file mirror would."""

    def __init__(self) -> None:
        self.data: dict[int, bytes] = {}
        self.expected: tuple[int, int] = (0, 0)

    def write(self, batch: Batch) -> None:
        assert (batch.generation, batch.start) == self.expected, "a gap or an overlap that nobody announced"
        assert batch.end - batch.start == len(batch.data) > 0
        held = self.data.get(batch.generation, b"")
        assert len(held) >= batch.start, "a gap"
        self.data[batch.generation] = held[: batch.start] + bytes(batch.data)
        self.expected = (batch.generation, batch.end)

    def notice(self, event: object) -> None:
        if isinstance(event, Rewound):
            assert event.to < event.end
            self.expected = (event.generation, event.to)
        elif isinstance(event, Replaced | Truncated | Appeared):
            self.expected = (event.generation, 0)


class Run:
    """One machine, one world, one sink; `step` does one random thing."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.world = World(self.chance, noise=self.chance.choice([0.0, 0.05, 0.3]))
        self.options = TailOptions(
            follow=Follow.NAME,
            retry=True,
            poll=self.chance.choice(list(Poll)),
            delimiter=self.chance.choice([None, b"\n"]),
            max_record=self.chance.choice([4, 1000]),
            max_window=self.chance.choice([3, 16, 64]),
            max_depth=self.chance.randint(1, 4),
            pace=Pace(1.0, 4.0, 3),
        )
        self.now = 0.0
        self.sink = Sink()
        self.saved = Mark()
        self.under_way: deque[tuple[ByteRange, Answer | errors.TailerError | None]] = deque()
        self.ended = False
        self.refusals = 0.03
        self.build()

    def build(self) -> None:
        """A new process: nothing is left but the saved mark and what the sink holds."""
        self.tail = Tail(ObjectRef("b", "k"), self.options, self.saved, now=self.now)
        self.under_way.clear()
        self.sink.expected = (self.saved.delivered.generation, self.saved.delivered.offset)
        self.told = self.sink.expected  # how far the present generation is said to be verified

    def step(self) -> None:
        draw = self.chance.random()
        if draw < 0.16:
            self.change_world()
        elif draw < 0.17:
            self.build()
        elif draw < 0.25:
            self.answer_early()
        else:
            self.work()
        self.check()

    def change_world(self) -> None:
        draw = self.chance.random()
        if draw < 0.80:
            self.world.append()
        elif draw < 0.85:
            self.world.put()
        elif draw < 0.92:
            self.world.recreate()
        elif draw < 0.99:
            self.world.delete()
        else:
            self.world.seal()

    def answer_early(self) -> None:
        """A window behind the oldest is served now, the oldest later: they see different worlds."""
        open_ = [i for i, (_, answer) in enumerate(self.under_way) if answer is None]
        if open_:
            at = self.chance.choice(open_)
            asked, _ = self.under_way[at]
            self.under_way[at] = (asked, self.world.get(asked))

    def work(self) -> None:
        """Do what the machine asks for."""
        action = self.tail.next_action(self.now)
        if isinstance(action, Fetch):
            self.under_way.append((action.range, None))
        elif isinstance(action, Receive):
            self.receive()
        elif isinstance(action, Head):
            answer = self.world.head()
            if isinstance(answer, errors.TailerError):
                self.tail.fail(answer, self.now, self.chance.random())
            else:
                self.tail.observe(answer, self.now)
        elif isinstance(action, Cancel):
            self.under_way.clear()
        elif isinstance(action, Wait):
            assert action.until > self.now, "a machine that waits for the past spins"
            self.now = action.until
        elif isinstance(action, Stop):
            self.stop(action)
        self.deliver()

    def receive(self) -> None:
        asked, answer = self.under_way.popleft()
        self.now += self.chance.choice([0.0, 0.01])
        answer = self.world.get(asked) if answer is None else answer
        if isinstance(answer, errors.TailerError):
            self.tail.fail(answer, self.now, self.chance.random())
        else:
            self.tail.receive(*answer, self.now)

    def stop(self, action: Stop) -> None:
        """Only the end of a sealed object, or noise that never ceased, may stop a follow by name."""
        if action.error is None:
            assert any(one.sealed for one in self.world.history)
            self.ended = True
        else:
            assert isinstance(action.error, errors.ChainBroken | errors.ProtocolError), action.error
            assert self.world.noise or len(self.world.history) > 1
            self.build()

    def deliver(self) -> None:
        for event in self.tail.events():
            if not isinstance(event, Batch):
                if isinstance(event, Rewound):
                    self.saved = self.tail.mark  # before the sink drops what it holds
                self.sink.notice(event)
                self.check_event(event)
            elif self.chance.random() < self.refusals:
                self.saved = self.tail.mark  # the sink refuses: drop the machine, begin from the mark
                self.build()
                return
            else:
                self.sink.write(event)
                self.tail.acknowledge(event)
                if event.verified:
                    assert self.world.had_prefix(self.held(event.generation, event.end))
        if self.chance.random() < 0.7:
            self.saved = self.tail.mark

    def check_event(self, event: object) -> None:
        if isinstance(event, Verified):
            self.told = (event.position.generation, event.position.offset)
            assert self.world.had_prefix(self.held(*self.told))
        elif isinstance(event, Rewound):
            self.told = (event.generation, min(self.told[1], event.to))
        elif isinstance(event, Replaced | Truncated | Appeared):
            assert len(self.held(*self.told)) == self.told[1], "the end of an object was never handed out"
            self.told = (event.generation, 0)

    def held(self, generation: int, end: int) -> bytes:
        return self.sink.data.get(generation, b"")[:end]

    def check(self) -> None:
        mark = self.tail.mark
        for position in (mark.verified, mark.delivered):
            held = self.held(position.generation, position.offset)
            assert len(held) == position.offset, "the mark covers bytes that the sink never got"
            assert crc64.update(held) == position.crc64
        assert mark.verified.offset <= mark.delivered.offset
        assert self.world.had_prefix(self.held(mark.verified.generation, mark.verified.offset))

    def settle(self) -> None:
        """The world is still and honest: the sink must come to hold the object, within a bounded effort."""
        self.world.noise = self.refusals = 0.0
        for _ in range(20_000):
            if self.ended or (self.tail.idle and not self.under_way and self.is_complete()):
                break
            self.work()
            self.check()
        assert self.ended or self.is_complete()

    def is_complete(self) -> bool:
        if self.world.current is None:
            return True
        wanted, delimiter = self.world.current.data, self.options.delimiter
        held = self.held(*self.end())
        if delimiter is None:
            return held == wanted
        return wanted.startswith(held) and delimiter not in wanted[len(held) :] and self.rest_is_short(wanted, held)

    def rest_is_short(self, wanted: bytes, held: bytes) -> bool:
        return len(wanted) - len(held) <= self.options.max_record

    def end(self) -> tuple[int, int]:
        delivered = self.tail.mark.delivered
        return delivered.generation, delivered.offset


def run_one(seed: int) -> int:
    run = Run(seed)
    steps = 0
    while steps < RUN and not run.ended:
        run.step()
        steps += 1
    run.settle()
    return steps


@pytest.mark.parametrize("shard", range(SHARDS))
def test_random_actions_never_break_the_claims(shard: int) -> None:
    steps, seed = 0, shard * 1_000_000_000
    while steps < STEPS // SHARDS:
        try:
            steps += run_one(seed)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        seed += 1
    assert steps >= STEPS // SHARDS
