"""Random actions against `Tail`, on a simulated clock, checked against a toy world after every step.

The claims, whatever is appended, replaced, truncated, deleted, re-created, sealed, spoilt on the way, refused
by the sink, or lost in a crash:

1. what the mark calls verified is a true prefix of an object that stood under the name, but for the bytes that it
   calls unproven; of these it knows the CRC-64 of what was handed out, in whatever pieces that was read;
2. every byte under the delivered mark reached the sink, in order: no gap, and no overlap but what a `Rewound`
   event or a crash announced;
3. what was said to be verified was handed out, all of it, before the word of the next object under the name (with
   `strict`, in whole batches);
4. once the world is still and honest, the sink holds exactly the object, but for what is called unproven;
5. with `full` nothing is unproven then, unless the world was dishonest before; with `strict` the sink was never given
   a byte that is not true, unless a start in the middle made it unprovable; with `off` all this holds in a world that
   refuses and cuts, but neither lies nor replaces.

Half of the runs begin in the middle of the object. A crash loses all but the checkpoint, as it would be kept.
"""

from __future__ import annotations

import os
import random
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tailer import errors
from tailer.checkpoints import Checkpoint, decode, encode
from tailer.core import crc64
from tailer.core.beginning import Beginning
from tailer.core.events import (
    Appeared,
    Batch,
    Cancel,
    Event,
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
from tailer.core.options import Follow, Integrity, Poll, TailOptions
from tailer.core.position import Claim, Link, Mark, ObjectRef, Position
from tailer.core.ranges import ByteRange
from tailer.core.schedule import Pace
from tailer.core.tail import Tail
from tests.model.world import Answer, World

if TYPE_CHECKING:
    from collections.abc import Iterator

REF = ObjectRef("b", "k")
MODES = [*[Integrity.CHAIN] * 3, *[Integrity.FULL] * 3, Integrity.STRICT, Integrity.OFF]
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
        integrity = self.chance.choice(MODES)
        noise = self.chance.choice([0.0, 0.05, 0.3])
        self.world = World(self.chance, noise=noise, spoils=integrity is not Integrity.OFF)
        self.honest = noise == 0.0
        self.options = TailOptions(
            follow=Follow.NAME,
            retry=True,
            integrity=integrity,
            poll=self.chance.choice(list(Poll)),
            delimiter=self.chance.choice([None, b"\n"]),
            max_record=self.chance.choice([4, 1000]),
            max_window=self.chance.choice([3, 16, 64]),
            max_depth=self.chance.randint(1, 4),
            pace=Pace(1.0, 4.0, 3),
        )
        self.now = 0.0
        self.sink = Sink()
        self.saved, self.links, self.start = Mark(), (), 0
        if self.chance.random() < 0.5:
            self.begin_in_the_middle()
        self.under_way: deque[tuple[ByteRange, Answer | errors.TailerError | None]] = deque()
        self.ended = False
        self.refusals = 0.03
        self.build()

    def begin_in_the_middle(self) -> None:
        """In each of the ways in which output can begin there; the sink has what was read to find it."""
        for _ in range(self.chance.randint(1, 3)):
            self.world.append()
        assert self.world.current is not None
        data = self.world.current.data
        size, crc = len(data), crc64.update(data)
        start = self.start = self.chance.randint(1, size)
        kind = self.chance.randrange(4)
        if kind == 0:
            self.saved = Mark.at(Position(size, crc, claim=Claim(start, size, crc64.update(data[start:]), crc)))
        elif kind == 1:
            self.start = size
            self.saved = Mark.at(Position.unread(size, crc))
        else:
            self.saved = Mark.at(Position.unread(start))
            self.links = (Link(size, crc),) if kind == 2 else ()
        self.sink.data[0] = bytes(start) + data[start : self.saved.delivered.offset]

    def build(self) -> None:
        """A new process: nothing is left but the saved mark and what the sink holds."""
        self.saved = decode(encode(Checkpoint("g", REF, self.saved, 0.0))).mark
        self.tail = Tail(REF, self.options, self.saved, now=self.now, links=self.links)
        self.links = ()
        self.kept: list[Batch] = []
        self.proven = self.unproven = 0
        self.beginning: Beginning | None = None
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
        elif draw < 0.35:
            self.prove()
        else:
            self.work()
        self.check()

    def change_world(self) -> None:
        draw = self.chance.random()
        if self.options.integrity is Integrity.OFF:
            draw = 0.0 if draw < 0.99 else 1.0
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

    def prove(self) -> bool:
        """A window of what lies below the start; false when there is none to read, or it does not fit."""
        if (claim := self.tail.claim) is None:
            return False
        if self.beginning is None or self.beginning.claim != claim:
            self.beginning = Beginning(claim)
        answer = self.world.get(self.beginning.next_range(self.options.max_window))
        if isinstance(answer, errors.TailerError):
            return self.world.noise > 0
        holds = self.beginning.feed(answer[1])
        if holds:
            self.tail.prove_beginning(claim, self.beginning.crc64)
        elif self.beginning.misfits > 1:
            assert not self.honest or len(self.world.history) > 1
            self.beginning = None
        self.deliver()
        return holds is not False

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
            assert not self.honest or len(self.world.history) > 1
            self.build()

    def deliver(self) -> None:
        for event in self.tail.events():
            wait = self.options.integrity is Integrity.STRICT
            for one in self.release(event) if wait else [event]:
                if not isinstance(one, Batch):
                    if isinstance(one, Rewound):
                        self.saved = self.tail.mark  # before the sink drops what it holds
                    self.sink.notice(one)
                    self.check_event(one)
                elif self.chance.random() < self.refusals:
                    self.saved = self.tail.mark  # the sink refuses: drop the machine, begin from the mark
                    self.build()
                    return
                else:
                    self.hand_on(one)
        if self.chance.random() < 0.7:
            self.saved = self.tail.mark

    def release(self, event: Event) -> Iterator[Event]:
        """The strict way: what is not proven yet waits, and a rewind voids what waits."""
        if isinstance(event, Batch):
            self.kept.append(event)
        elif isinstance(event, Verified):
            self.proven, self.unproven = event.position.offset, event.position.unproven
        elif isinstance(event, Rewound):
            self.kept, self.proven, self.unproven = [], 0, 0
            if self.sink.expected[1] > event.to:
                yield replace(event, end=self.sink.expected[1])
        elif isinstance(event, Replaced | Truncated | Appeared):
            self.kept, self.proven, self.unproven = [], 0, 0
        while self.kept and (self.kept[0].verified or self.kept[0].end <= self.proven):
            batch = self.kept.pop(0)
            yield replace(batch, verified=batch.verified or batch.start >= self.unproven)
        if not isinstance(event, Batch | Rewound):
            yield event

    def hand_on(self, batch: Batch) -> None:
        self.sink.write(batch)
        self.tail.acknowledge(batch)
        if batch.verified:
            assert self.is_true(batch.generation, self.first(batch.generation) and batch.start, batch.end)
        elif self.options.integrity is Integrity.STRICT:
            assert self.first(batch.generation), "nothing hinders the proof of what is read from byte 0"

    def check_event(self, event: object) -> None:
        if isinstance(event, Verified):
            waiting = self.kept[0].start if self.kept else event.position.offset
            self.told = (event.position.generation, min(waiting, event.position.offset))
            self.check_proof(event.position)
        elif isinstance(event, Rewound):
            self.told = (event.generation, min(self.told[1], event.to))
        elif isinstance(event, Replaced | Truncated | Appeared):
            assert len(self.held(*self.told)) == self.told[1], "the end of an object was never handed out"
            self.told = (event.generation, 0)

    def first(self, generation: int) -> int:
        """Where the output of a generation begins."""
        return 0 if generation else self.start

    def is_true(self, generation: int, start: int, end: int) -> bool:
        """Did an object hold what the sink has of [start, end)?"""
        return self.world.had(start, self.held(generation, end)[start:])

    def held(self, generation: int, end: int) -> bytes:
        return self.sink.data.get(generation, b"")[:end]

    def check(self) -> None:
        mark = self.tail.mark
        for position in (mark.verified, mark.delivered):
            held = self.held(position.generation, position.offset)
            assert len(held) == position.offset, "the mark covers bytes that the sink never got"
            self.check_crc(position, held)
        assert mark.verified.offset <= mark.delivered.offset
        self.check_proof(mark.verified)

    def check_crc(self, position: Position, held: bytes) -> None:
        """Of all that the sink holds up to there; of what is unproven, of that which it was given."""
        claim, start = position.claim, self.first(position.generation)
        if self.options.integrity is Integrity.OFF and position.crc64 is None:
            assert position.unproven == position.offset
        elif claim is not None:
            assert 0 < claim.start == start
            assert claim.crc64 == crc64.update(held[start : claim.size])
            rest = crc64.update(held[claim.size :])
            known = crc64.combine(claim.stated, rest, len(held) - claim.size) if claim.stated is not None else None
            assert position.crc64 == known
        elif start == 0:
            assert position.crc64 == crc64.update(held)

    def check_proof(self, position: Position) -> None:
        """All below it is true but what is unproven, and all of it once the beginning was read."""
        start = position.unproven or self.first(position.generation)
        if self.options.integrity is Integrity.OFF:
            start = self.first(position.generation)
        assert self.is_true(position.generation, start, position.offset)
        if position.unproven == 0:
            assert position.crc64 is not None
            assert self.world.had_crc(position.offset, position.crc64), "the beginning proved what is not so"

    def settle(self) -> None:
        """The world is still and honest: the sink must come to hold the object, within a bounded effort."""
        self.world.noise = self.refusals = 0.0
        for _ in range(20_000):
            if self.ended or (self.tail.idle and not self.under_way and self.is_complete()):
                break
            self.work()
            self.check()
        assert self.ended or self.is_complete()
        while self.prove():
            self.check()
        same = self.world.current is not None and len(self.world.history) == 1
        if self.options.integrity is Integrity.FULL and self.honest and same:
            assert (self.tail.claim, self.tail.mark.delivered.claim) == (None, None)

    def is_complete(self) -> bool:
        if self.world.current is None:
            return True
        wanted, delimiter = self.world.current.data, self.options.delimiter
        held = self.held(*self.end())
        known = max(self.tail.mark.delivered.unproven, self.first(self.tail.mark.delivered.generation))
        if self.options.integrity is Integrity.OFF:
            known = self.start
        if delimiter is None:
            return held[known:] == wanted[known:] and len(held) == len(wanted)
        begun, rest = wanted.startswith(held[known:], known), wanted[len(held) :]
        return begun and delimiter not in rest and len(rest) <= self.options.max_record

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
