"""Which file holds an object: a mapping of keys to relative paths that can be read backwards.

Most keys are their own path. What no file can be called is written with ``%``: control characters, a segment
that is ``.`` or ``..``, and a ``%`` that would be read as one of these, as ``%XX``; an empty segment (as in
``a//b`` or ``a/``) as ``%`` alone; a segment longer than a file's name may be in several folders, all but the
last one ending in ``%~``. A path that this mapping never writes is not an object.
"""

from __future__ import annotations

import re
from functools import lru_cache

from tailer.local.names import MAX_KEY_BYTES

_NAME_MAX = 255
_PIECE = 240
_GOES_ON = "%~"
_CODES = "0[0-9A-F]|1[0-9A-F]|25|2E|7F"
_UNSAFE = re.compile(rf"[\x00-\x1f\x7f]|%(?=~|{_CODES})")
_CODE = re.compile(f"%({_CODES})")
_DOTS = {".": "%2E", "..": "%2E%2E", "": "%", "%": "%25"}


@lru_cache(maxsize=4096)
def path_of(key: str) -> str:
    """The path, relative to the bucket's folder, of an object with a valid key."""
    return "/".join(piece for segment in key.split("/") for piece in _pieces(_escaped(segment)))


def key_of(path: str) -> str | None:
    """The key whose path this is; None when it is no object's path."""
    try:
        length = len(path.encode("utf-8"))
    except UnicodeEncodeError:
        return None
    if "%" not in path and _UNSAFE.search(path) is None:
        return path if length <= MAX_KEY_BYTES and not path.startswith("\\") else None
    key = "/".join(_unescaped(segment) for segment in path.replace(_GOES_ON + "/", "").split("/"))
    valid = 1 <= len(key.encode("utf-8")) <= MAX_KEY_BYTES and key[0] not in "/\\"
    return key if valid and path_of(key) == path else None


def _escaped(segment: str) -> str:
    if segment in _DOTS:
        return _DOTS[segment]
    return _UNSAFE.sub(lambda match: f"%{ord(match[0]):02X}", segment)


def _unescaped(segment: str) -> str:
    return "" if segment == "%" else _CODE.sub(lambda match: chr(int(match[1], 16)), segment)


def _pieces(name: str) -> list[str]:
    """The name in pieces that fit a file system, cut between characters."""
    if len(name.encode("utf-8")) <= _NAME_MAX:
        return [name]
    pieces, piece, length = [], "", 0
    for character in name:
        width = len(character.encode("utf-8"))
        if length + width > _PIECE:
            pieces.append(piece + _GOES_ON)
            piece, length = "", 0
        piece += character
        length += width
    return [*pieces, piece]
