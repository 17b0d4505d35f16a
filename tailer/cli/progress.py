"""The progress of a long read: one line on a terminal, written over and over, and gone when it is done.

Told what happens and what time it is; reads no clock and asks for nothing.
"""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tailer.core.events import (
    Appeared,
    Batch,
    Gone,
    Grew,
    Replaced,
    Rewound,
    Sealed,
    Truncated,
    Unproven,
    Verified,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from tailer.core.events import Event
    from tailer.core.position import ObjectRef

_PATIENCE = 1.0  # seconds that a read may take before it is worth a line
_BETWEEN = 0.1  # seconds from one drawing to the next
_MEMORY = 3.0  # seconds after which a change of the rate shows by two thirds
_LEAST_NAME = 12  # columns


@dataclass(frozen=True, slots=True)
class Reading:
    """What one line says. `done` of `total` bytes, `rate` in bytes per second, `chain` in a few words."""

    name: str
    done: int
    total: int
    rate: float
    chain: str

    def line(self, columns: int) -> str:
        """The line, at most `columns` wide: facts are left out, the least telling first, the name is shortened."""
        facts = {
            "percent": f"{min(99, 100 * self.done // max(1, self.total))}%",
            "size": f"{human_size(self.done)} of {human_size(self.total)}",
            "rate": f"{human_size(self.rate)}/s",
            "chain": self.chain,
            "left": f"{_duration(self._seconds_left)} left",
        }
        while facts and columns < min(cells(self.name), _LEAST_NAME) + sum(2 + len(fact) for fact in facts.values()):
            facts.popitem()
        shown = "".join(f"  {facts[name]}" for name in ("size", "percent", "rate", "left", "chain") if name in facts)
        return shorten(self.name, columns - len(shown)) + shown

    @property
    def _seconds_left(self) -> float:
        return max(0, self.total - self.done) / self.rate if self.rate > 0 else math.inf


class Progress:
    """Draws while objects are being caught up with. Call `clear` before anything else goes to the terminal.

    `write` takes text for the terminal, `columns` says how wide it is now. `checked` is false when the
    bytes are not checked at all (integrity off).
    """

    def __init__(self, write: Callable[[str], None], columns: Callable[[], int], *, checked: bool = True) -> None:
        self._write = write
        self._columns = columns
        self._checked = checked
        self._objects: dict[ObjectRef, _CatchUp] = {}
        self._drawn_at = -math.inf
        self._drawn = 0  # columns in use on the terminal

    def on_event(self, ref: ObjectRef, event: Event, now: float) -> None:
        """Be told of an event (or a batch, once delivered) of `ref` at `now`, seconds on any steady clock."""
        if isinstance(event, Gone | Sealed):
            self.finish(ref)
            return
        if ref not in self._objects or isinstance(event, Appeared | Replaced | Truncated):
            self._objects[ref] = _CatchUp()
        self._objects[ref].follow(event, now)
        self.refresh(now)

    def finish(self, ref: ObjectRef) -> None:
        """Nothing more of `ref` is on its way."""
        self._objects.pop(ref, None)
        if not any(one.behind for one in self._objects.values()):
            self.clear()

    def refresh(self, now: float) -> None:
        """Draw, or clear, what is due."""
        behind = {ref: one for ref, one in self._objects.items() if one.behind}
        if not behind:
            self.clear()
        elif now - min(one.since for one in behind.values()) >= _PATIENCE and now - self._drawn_at >= _BETWEEN:
            self._drawn_at = now
            self._draw(self._reading(behind, now))

    def clear(self) -> None:
        """Take the line off the terminal."""
        if self._drawn:
            self._write(f"\r{' ' * min(self._drawn, self._room)}\r")
            self._drawn = 0

    @property
    def _room(self) -> int:
        """Columns of one line; in the very last one some terminals go on to the next line."""
        return self._columns() - 1

    def _draw(self, reading: Reading) -> None:
        line = reading.line(self._room)
        width = cells(line)
        self._write(f"\r{line}{' ' * (min(self._drawn, self._room) - width)}")
        self._drawn = width

    def _reading(self, behind: dict[ObjectRef, _CatchUp], now: float) -> Reading:
        catch_ups = behind.values()
        return Reading(
            name=str(next(iter(behind))) if len(behind) == 1 else f"{len(behind)} objects",
            done=sum(one.done for one in catch_ups),
            total=sum(one.total for one in catch_ups),
            rate=sum(one.rate.at(now) for one in catch_ups),
            chain=_chain(catch_ups) if self._checked else "not checked",
        )


class _CatchUp:
    """One object: how far it was read, how far it goes."""

    def __init__(self) -> None:
        self.total = self.done = self.proven = 0
        self.since = 0.0
        self.rate = _Rate(0.0)
        self.trouble = ""

    @property
    def behind(self) -> bool:
        """Is there something on its way?"""
        return self.done < self.total

    def follow(self, event: Event, now: float) -> None:
        """Take in what happened."""
        match event:
            case Batch(start=start, end=end):
                self.rate.add(end - start, now)
                self.done = end
            case Grew(offset=offset, size=size):
                if offset >= self.total:  # all that was known of is read: another catch-up begins
                    self.done, self.since, self.rate = offset, now, _Rate(now)
                self.total = size
            case Verified(position=position):
                # What is proven may still wait for the end of its record: nothing that has to be shown.
                self.done, self.proven = max(self.done, position.offset), position.offset
                self.trouble = ""
            case Rewound(to=to):
                self.done, self.trouble = to, f"rewound to {human_size(to)}"
            case Unproven():
                self.trouble = "no CRC-64: unproven"
            case _:
                pass


class _Rate:
    """Bytes per second, smoothed: older ones count less and less, and the start is not taken for slowness."""

    def __init__(self, now: float) -> None:
        self._start = self._last = now
        self._weighted = 0.0

    def add(self, count: int, now: float) -> None:
        self._fade(now)
        self._weighted += count / _MEMORY

    def at(self, now: float) -> float:
        self._fade(now)
        elapsed = now - self._start
        return self._weighted / -math.expm1(-elapsed / _MEMORY) if elapsed > 0 else 0.0

    def _fade(self, now: float) -> None:
        self._weighted *= math.exp((self._last - now) / _MEMORY)
        self._last = now


def _chain(catch_ups: Collection[_CatchUp]) -> str:
    for one in catch_ups:
        if one.trouble:
            return one.trouble
    proven = sum(one.proven for one in catch_ups)
    return f"chain holds to {human_size(proven)}" if proven else "nothing proven yet"


# --- words and widths


def human_size(count: float) -> str:
    """A number of bytes in at most four digits: ``999 B``, ``1.2 GB`` (powers of 1000)."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 999.5 or unit == "TB":
            break
        count /= 1000
    return f"{count:.1f} {unit}" if unit != "B" and count < 9.95 else f"{count:.0f} {unit}"


def shorten(text: str, columns: int) -> str:
    """`text` in at most `columns` columns, without control characters; what is left out of its middle is ``…``."""
    text = "".join(character if character.isprintable() else "?" for character in text)
    if cells(text) <= columns:
        return text
    tail = _fitting(text[::-1], (columns - 1) * 2 // 3)[::-1]
    return _fitting(text, columns - 1 - cells(tail)) + "…" + tail if columns > 0 else ""


def cells(text: str) -> int:
    """Columns that `text` takes on a terminal."""
    return sum(_cell(character) for character in text)


def _cell(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def _fitting(text: str, columns: int) -> str:
    """The longest beginning of `text` that fits."""
    used = 0
    for index, character in enumerate(text):
        used += _cell(character)
        if used > columns:
            return text[:index]
    return text


def _duration(seconds: float) -> str:
    """``0:07``, ``12:34``, ``1:02:03``; ``?:??`` when it is not to be foreseen."""
    if seconds >= 100 * 3600:
        return "?:??"
    minutes, second = divmod(math.ceil(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute}:{second:02}"
