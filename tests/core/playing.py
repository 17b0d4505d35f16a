"""A scripted object and a player that drives one `Tail` against it, on a clock that only waiting moves."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from dataclasses import replace as changed
from typing import TYPE_CHECKING, Any

from tailer import errors
from tailer.core import crc64
from tailer.core.events import (
    Action,
    Appeared,
    Batch,
    Cancel,
    Event,
    Fetch,
    Grew,
    Head,
    Receive,
    Replaced,
    Rewound,
    Stop,
    Truncated,
    Verified,
    Wait,
)
from tailer.core.options import TailOptions
from tailer.core.position import Mark, ObjectMeta, ObjectRef
from tailer.core.tail import Tail

if TYPE_CHECKING:
    from collections.abc import Callable

    from tailer.core.ranges import ByteRange

REF = ObjectRef("bucket", "app.log")
Window = tuple[int, bytes, ObjectMeta]
FORMER, LATTER = bytes(range(30)), bytes(range(50, 100))


def missing() -> errors.ObjectNotFound:
    return errors.ObjectNotFound("no such key", status=404, code="NoSuchKey")


def refused(retry_after: float | None = None) -> errors.Throttled:
    return errors.Throttled("slow down", status=503, retry_after=retry_after)


def out_of_range() -> errors.RangeNotSatisfiable:
    return errors.RangeNotSatisfiable("no such range", status=416, code="InvalidRange")


def flip_data(at: int) -> Callable[[Window], Window]:
    """Spoil the byte at index `at` of a window on its way."""

    def spoil(window: Window) -> Window:
        start, data, meta = window
        return start, data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], meta

    return spoil


def flip_crc(window: Window) -> Window:
    """Spoil the CRC header of a window on its way."""
    start, data, meta = window
    return start, data, changed(meta, crc64=(meta.crc64 or 0) ^ 1)


def then(service: Service, data: bytes) -> Callable[[Window], Window]:
    """A true answer, after which `data` stands under the name."""

    def answer(window: Window) -> Window:
        service.data = data
        return window

    return answer


@dataclass
class Service:
    """One name. `data` is what stands under it, None for nothing.

    `heads` and `gets` are scripts, used up one per answer: None answers truly, an error is raised, metadata
    is given instead, a function changes the true answer.
    """

    data: bytes | None = b""
    type: str = "Appendable"
    version_id: str | None = None
    sealed: bool = False
    crc: bool = True
    etag: str = "1"
    heads: deque[Any] = field(default_factory=deque)
    gets: deque[Any] = field(default_factory=deque)

    def put(self, data: bytes, **attributes: Any) -> None:
        """Another object, which says so in nothing but its content unless `attributes` do."""
        self.data = data
        for name, value in attributes.items():
            setattr(self, name, value)

    def meta(self) -> ObjectMeta:
        if self.data is None:
            raise missing()
        crc = crc64.update(self.data) if self.crc else None
        sealed = 1.0 if self.sealed else None
        return ObjectMeta(
            len(self.data), crc, self.type, etag=self.etag, version_id=self.version_id, sealed_time=sealed
        )

    def head(self) -> ObjectMeta:
        change = self.heads.popleft() if self.heads else None
        if isinstance(change, Exception):
            raise change
        if isinstance(change, ObjectMeta):
            return change
        return change(self.meta()) if change else self.meta()

    def get(self, asked: ByteRange) -> Window:
        change = self.gets.popleft() if self.gets else None
        if isinstance(change, Exception):
            raise change
        meta = self.meta()
        data = (self.data or b"")[asked.start : asked.stop]
        if not data:
            raise out_of_range()
        window = (asked.start, data, meta)
        return change(window) if change else window


class Player:
    """Does what the machine says, takes what it gives, and keeps the books."""

    def __init__(
        self, service: Service, options: TailOptions | None = None, mark: Mark | None = None, **more: Any
    ) -> None:
        self.service = service
        self.tail = Tail(REF, options, mark, now=0.0, **more)
        self.now = 0.0
        self.actions: list[Action] = []
        self.events: list[Event] = []
        self.under_way: deque[ByteRange] = deque()
        self.most_under_way = 0
        self.sink: dict[int, bytes] = {}
        delivered = self.tail.mark.delivered
        self.expected = (delivered.generation, delivered.offset)
        self.before = {delivered.generation: delivered.offset}

    # --- driving

    def settle(self, most: int = 2000) -> Action:
        """Go on until nothing is left but time, or for ever nothing; returns that Wait or Stop."""
        for _ in range(most):
            action = self.step()
            if isinstance(action, Stop) or (isinstance(action, Wait) and self.tail.idle):
                return action
        raise AssertionError(f"no rest after {most} actions: {self.actions[-6:]}")

    def poll(self) -> Action:
        """Let time pass up to the next poll, and settle again."""
        action = self.tail.next_action(self.now)
        if isinstance(action, Wait):
            self.now = action.until
        return self.settle()

    def step(self) -> Action:
        action = self.tail.next_action(self.now)
        self.actions.append(action)
        if isinstance(action, Wait):
            assert action.until > self.now, "a Wait for the past is a spin"
            if not self.tail.idle:
                self.now = action.until
        else:
            self.perform(action)
        self.drain()
        return action

    def perform(self, action: Action) -> None:
        if isinstance(action, Fetch):
            self.under_way.append(action.range)
            self.most_under_way = max(self.most_under_way, len(self.under_way))
        elif isinstance(action, Cancel):
            self.under_way.clear()
        elif isinstance(action, Head):
            self.answer(self.service.head, self.tail.observe)
        elif isinstance(action, Receive):
            asked = self.under_way.popleft()
            self.answer(lambda: self.service.get(asked), lambda window, now: self.tail.receive(*window, now))

    def answer(self, ask: Callable[[], Any], tell: Callable[[Any, float], None]) -> None:
        try:
            answer = ask()
        except errors.TailerError as error:
            self.tail.fail(error, self.now)
        else:
            tell(answer, self.now)

    def drain(self) -> None:
        for event in self.tail.events():
            self.events.append(event)
            if isinstance(event, Batch):
                self.take(event)
            elif isinstance(event, Rewound):
                self.expected = (event.generation, event.to)
            elif isinstance(event, Replaced | Truncated | Appeared):
                self.expected = (event.generation, 0)

    def take(self, batch: Batch) -> None:
        assert (batch.generation, batch.start) == self.expected, "a gap or an overlap"
        held = self.sink.get(batch.generation, bytes(self.before.get(batch.generation, 0)))
        self.sink[batch.generation] = held[: batch.start] + bytes(batch.data)
        self.expected = (batch.generation, batch.end)
        self.tail.acknowledge(batch)

    # --- what was seen

    def held(self, generation: int = 0) -> bytes:
        """What the sink was given of a generation, from where the player began."""
        return self.sink.get(generation, b"")[self.before.get(generation, 0) :]

    def batches(self) -> list[Batch]:
        return self.of(Batch)

    def of(self, *kinds: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kinds)]

    def asked(self, kind: type) -> int:
        return sum(isinstance(action, kind) for action in self.actions)

    def news(self) -> list[Event]:
        """The events that change what the bytes mean: all but batches, proofs and sizes."""
        return [event for event in self.events if not isinstance(event, Batch | Verified | Grew)]

    def forget(self) -> None:
        """Clear the books; what the sink holds stays."""
        self.events.clear()
        self.actions.clear()


def replaced_between_proofs(options: TailOptions) -> Player:
    """`FORMER` grows while it is read, so that 15 of 20 bytes are proven, and becomes `LATTER`."""
    service = Service(FORMER[:15])
    service.gets.extend([then(service, FORMER), then(service, LATTER)])
    player = Player(service, changed(options, max_window=10, max_depth=1))
    player.settle()
    return player
