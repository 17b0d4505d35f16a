"""One line on stderr for everything that is not output, and names in it that harm no terminal.

Names come from the service and may hold anything: they are quoted as GNU tail quotes file names.
"""

from __future__ import annotations

import os
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tailer.oss.address import Address
    from tailer.oss.client import ServiceSettings

_ESCAPES = {7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r"}
# A name with an apostrophe goes into double quotes if nothing in it means anything to a shell there.
_PLAIN_IN_DOUBLE_QUOTES = frozenset(" %+,-./:]_{}@'#")


def quote(name: object) -> str:
    """`name` so that a shell would read it back: ``'a b'``, ``"it's"``, ``'a'$'\\n''b'``."""
    text = str(name)
    if "'" in text and all(_is_plain(character) for character in text):
        return f'"{text}"'
    pieces = [_quoted_run("".join(run), printable) for printable, run in groupby(text, str.isprintable)]
    return "".join(pieces) if text and text[0].isprintable() else "''" + "".join(pieces)


def _quoted_run(run: str, printable: bool) -> str:
    if printable:
        return "'" + run.replace("'", "'\\''") + "'"
    return "$'" + "".join(map(_escaped, run)) + "'"


def _is_plain(character: str) -> bool:
    if character.isascii():
        return character.isalnum() or character in _PLAIN_IN_DOUBLE_QUOTES
    return character.isprintable()


def _harmless(text: str) -> str:
    return "".join(character if character.isprintable() else _escaped(character) for character in text)


def _escaped(character: str) -> str:
    if ord(character) in _ESCAPES:
        return _ESCAPES[ord(character)]
    return "".join(f"\\{byte:03o}" for byte in character.encode("utf-8", "surrogateescape"))


class Messages:
    """Lines on stderr. `before` is called ahead of each: whatever else is on that terminal gets out of the way."""

    def __init__(self, descriptor: int = 2, *, debug: bool = False, name: str = "oss-tail") -> None:
        """`name` is the command's, which begins each line."""
        self._name = name
        self.before: Callable[[], None] = lambda: None
        self.debugging = debug
        self._descriptor = descriptor

    def say(self, text: object) -> None:
        """One line, whatever `text` holds."""
        self.write(f"{self._name}: {_harmless(str(text))}\n")

    def debug(self, text: object) -> None:
        """A line for --debug alone."""
        if self.debugging:
            self.say(f"debug: {text}")

    def trace(self, error: BaseException) -> None:
        """For --debug alone: where `error` came from."""
        if self.debugging:
            import traceback

            self.write("\n".join(map(_harmless, "".join(traceback.format_exception(error)).split("\n"))))

    def write(self, text: str) -> None:
        """`text` as it is, after `before`."""
        self.before()
        self.draw(text)

    def draw(self, text: str) -> None:
        """`text` as it is."""
        try:
            os.write(self._descriptor, text.encode("utf-8", "surrogateescape"))
        except OSError:
            # There is nowhere left to say it; the exit status still tells.
            return


def warn_in_clear(messages: Messages, settings: ServiceSettings, addresses: Iterable[Address]) -> None:
    """One line where signed requests go out unencrypted. Raises ConfigError when nothing says where they go."""
    places = dict.fromkeys(filter(None, map(settings.in_clear, addresses)))
    if places:
        danger = "who is on the way can read the data, and use the signatures for a while"
        messages.say(
            f"warning: requests to {', '.join(places)} are signed but not encrypted: {danger} (write https://)"
        )
