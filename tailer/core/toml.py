"""Where in a TOML document its keys stand; `tomllib`, which reads the values, does not say. (TOML 1.0.0)"""

from __future__ import annotations

import json
import re
from bisect import bisect_right

Path = tuple[str | int, ...]
"""The way to a value from the top: names of keys, and numbers of elements of arrays, from 0."""

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_BASIC = re.compile(r'"((?:[^"\\\n]|\\.)*)"')
_LITERAL = re.compile(r"'([^'\n]*)'")
# Quotes may stand directly before the three that end such a text: all of a run belong to it.
_LONG_BASIC = re.compile(r'"""(?:[^\\]|\\.)*?"""+', re.DOTALL)
_LONG_LITERAL = re.compile(r"'''.*?'''+", re.DOTALL)
_SCALAR = re.compile(r"[^,\]}#\n]+")
_ESCAPE = re.compile(r"\\(?:U([0-9A-Fa-f]{8})|x([0-9A-Fa-f]{2})|(e)|.)", re.DOTALL)


def key_lines(text: str) -> dict[Path, int]:
    """The line, from 1, where each key and each element of an array stands, by the way to it.

    `text` is a document that `tomllib` reads. A table that is named in several places is where it is first.
    """
    return _Locator(text).lines


class _Locator:
    """Goes through the text once."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._ends = [match.start() for match in re.finditer("\n", text)]
        self._elements: dict[Path, int] = {}
        self.lines: dict[Path, int] = {}
        self._read_document()

    def _read_document(self) -> None:
        table: Path = ()
        while self._skip(_BLANK) < len(self._text):
            if self._take("[["):
                table = self._header(array=True)
            elif self._take("["):
                table = self._header(array=False)
            else:
                self._read_pair(table)

    def _header(self, *, array: bool) -> Path:
        """The table whose lines follow; of an array of tables, its latest element."""
        line = self._line()
        path: Path = ()
        names = self._key()
        for number, name in enumerate(names, 1):
            path = (*path, name)
            self.lines.setdefault(path, line)
            if number == len(names) and array:
                self._elements[path] = self._elements.get(path, -1) + 1
            if path in self._elements:
                path = (*path, self._elements[path])
                self.lines.setdefault(path, line)
        self._take("]]" if array else "]")
        return path

    def _read_pair(self, table: Path) -> None:
        line, before = self._line(), self._at
        path = table
        for name in self._key():
            path = (*path, name)
            self.lines.setdefault(path, line)
        self._take("=")
        self._read_value(path)
        self._at = max(self._at, before + 1)  # whatever the text is, it has an end

    def _key(self) -> list[str]:
        names = [self._name()]
        while self._take("."):
            names.append(self._name())
        return names

    def _name(self) -> str:
        self._skip(_SPACE)
        if match := _BASIC.match(self._text, self._at):
            self._at = match.end()
            return _unescaped(match[1])
        match = _LITERAL.match(self._text, self._at) or _BARE.match(self._text, self._at)
        if match is None:
            return ""
        self._at = match.end()
        return match[match.lastindex or 0]

    def _read_value(self, path: Path) -> None:
        self._skip(_SPACE)
        if self._take("["):
            self._read_array(path)
        elif self._take("{"):
            while self._skip(_BLANK) < len(self._text) and not self._take("}"):
                self._read_pair(path)
                self._take(",")
        else:
            for pattern in (_LONG_BASIC, _LONG_LITERAL, _BASIC, _LITERAL, _SCALAR):
                if match := pattern.match(self._text, self._at):
                    self._at = match.end()
                    return

    def _read_array(self, path: Path) -> None:
        number = 0
        while self._skip(_BLANK) < len(self._text) and not self._take("]"):
            before = self._at
            self.lines[*path, number] = self._line()
            self._read_value((*path, number))
            self._skip(_BLANK)
            self._take(",")
            number += 1
            self._at = max(self._at, before + 1)

    def _take(self, sign: str) -> bool:
        self._skip(_SPACE)
        found = self._text.startswith(sign, self._at)
        self._at += len(sign) * found
        return found

    def _skip(self, pattern: re.Pattern[str]) -> int:
        match = pattern.match(self._text, self._at)
        self._at = match.end() if match else self._at
        return self._at

    def _line(self) -> int:
        return bisect_right(self._ends, self._at - 1) + 1


def _unescaped(text: str) -> str:
    """What a basic string stands for: JSON's escapes, and ``\\U``, ``\\x`` and ``\\e`` (TOML 1.1)."""

    def as_json(match: re.Match[str]) -> str:
        code = match[1] or match[2] or match[3]
        return match[0] if code is None else json.dumps("\x1b" if code == "e" else chr(int(code, 16)))[1:-1]

    return str(json.loads(f'"{_ESCAPE.sub(as_json, text)}"', strict=False))
