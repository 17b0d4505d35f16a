"""Names of mirrored objects below a folder: one path for one object, readable, reversible, never outside.

Every escape is ``%`` and two hexadecimal digits, and a ``%`` of the key is escaped itself. That leaves a
``%`` with anything else behind it free for marks that no key can produce.
"""

from __future__ import annotations

import re
import stat
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from tailer.core.position import ObjectRef
from tailer.errors import SinkError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

_OTHER_KIND = "%"  # at the end of a name: a file where a folder has the plain name, or the other way round
_CONTINUED = "%+"  # at the end of a folder's name: the segment goes on in the name below it
_EMPTY = "%2F"  # a segment without characters, as in a//b; no segment holds a slash
_LONGEST = 250  # bytes; 255 is what file systems allow, less both marks
_LONGEST_OF_SEGMENTS = 220  # less what `segments_path` leaves room for: ``%g999999999.`` and 20 digits
_LIKE_A_SEGMENT = re.compile(r"\.[0-9]{20}$")


def mirror_path(folder: str | os.PathLike[str], ref: ObjectRef) -> Path:
    """The file of `ref` below `folder`: ``folder/bucket/key``, the same on every run.

    The bucket is there always, so that the place of one object does not depend on the others; for an
    object known by its URL it is ``https:host``. Segments of the key are folders. Escaped as ``%XX`` (the
    bytes of UTF-8) are ``%``, control characters, the segments ``.`` and ``..``, and an empty segment, as
    ``%2F``; a segment of more than 250 bytes is spread over several folders whose names end in ``%+``.

    Where both ``a`` and ``a/b`` are objects, one needs a file and the other a folder of the same name: the
    second to be mirrored gets a ``%`` at its end. That is why the path depends on what stands in `folder`.
    No two objects share a path, and none lies outside `folder`; `mirrored_object` is the way back.
    """
    path = Path(folder)
    *folders, last = _names(ref, _LONGEST)
    for name in folders:
        path /= _free_name(path, name, stat.S_ISDIR)
    return path / _free_name(path, last, stat.S_ISREG)


def segments_path(folder: str | os.PathLike[str], ref: ObjectRef) -> Path:
    """What the names of the segments of `ref` below `folder` begin with, before the ``.`` and 20 digits.

    As `mirror_path`, but no object needs the mark for ``a`` and ``a/b``, since no file has the plain name. Instead a
    folder whose name could be that of a segment has a ``%`` at its end always. Cut off the digits of a segment, and
    `mirrored_object` is the way back.
    """
    path = Path(folder)
    *folders, last = _names(ref, _LONGEST_OF_SEGMENTS)
    for name in folders:
        like_a_segment = _LIKE_A_SEGMENT.search(name)
        path /= name + _OTHER_KIND if like_a_segment else _free_name(path, name, stat.S_ISDIR)
    return path / last


def mirrored_object(folder: str | os.PathLike[str], path: str | os.PathLike[str]) -> ObjectRef:
    """The object whose mirror below `folder` is the file `path`: the inverse of `mirror_path`."""
    bucket, *names = (name.removesuffix(_OTHER_KIND) for name in Path(path).relative_to(folder).parts)
    scheme, colon, host = bucket.partition(":")
    key = "".join(
        name.removesuffix(_CONTINUED) if name.endswith(_CONTINUED) else f"{'' if name == _EMPTY else name}/"
        for name in names
    )
    return ObjectRef(_unescape(host if colon else bucket), _unescape(key[:-1]), scheme=scheme if colon else "oss")


def _names(ref: ObjectRef, longest: int) -> list[str]:
    """The names of the folders and, last, of the file, as they are when no other object is in the way."""
    special = "%/:" if ref.scheme == "oss" else "%/"
    bucket = "".join(_escaped_segment(ref.bucket, special))
    names = [bucket if ref.scheme == "oss" else f"{ref.scheme}:{bucket}"]
    for segment in ref.key.split("/"):
        names += _cut_to_length(_escaped_segment(segment), longest)
    return names


def _escaped_segment(segment: str, special: str = "%") -> list[str]:
    """Each character of the segment, escaped where it has to be."""
    if not segment:
        return [_EMPTY]
    if segment in (".", ".."):
        return ["%2E"] * len(segment)
    return [_escape(character) if _is_risky(character, special) else character for character in segment]


def _is_risky(character: str, special: str) -> bool:
    return character in special or unicodedata.category(character) in ("Cc", "Cs")


def _escape(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))


def _unescape(name: str) -> str:
    return unquote_to_bytes(name.encode("utf-8")).decode("utf-8", "surrogatepass")


def _cut_to_length(units: list[str], longest: int) -> list[str]:
    """The units joined into names of at most `longest` bytes; no unit is torn apart."""
    names, size = [""], 0
    for unit in units:
        length = len(unit.encode())
        if size + length > longest:
            names[-1] += _CONTINUED
            names.append("")
            size = 0
        names[-1] += unit
        size += length
    return names


def _free_name(parent: Path, name: str, fits: Callable[[int], bool]) -> str:
    """`name`, or the marked one where something of the other kind stands under the plain one."""
    marked = name + _OTHER_KIND
    if fits(_mode(parent / marked)):
        return marked
    mode = _mode(parent / name)
    return marked if mode and not fits(mode) else name


def _mode(path: Path) -> int:
    """Mode of what stands at `path`, 0 when nothing does."""
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except OSError as error:
        raise SinkError(f"cannot mirror to {str(path)!r}: {error.strerror}") from error
    if stat.S_ISLNK(mode):
        raise SinkError(f"cannot mirror to {str(path)!r}: a symbolic link, which could lead out of the folder")
    return mode
