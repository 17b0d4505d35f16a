"""Sizes and times as people write them: ``64MiB``, ``500ms``."""

from __future__ import annotations

import re

_SIZE = re.compile(r"([0-9]{1,15})(?:([KMG])(iB|B)?|(kB))?", re.ASCII)
_POWERS = {"k": 1, "K": 1, "M": 2, "G": 3}
_TIME = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?) ?(ms|s|m|h|d)", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_size(text: str) -> int | None:
    """The bytes of ``4096``, ``64K`` or ``64KiB`` (powers of 1024: K, M, G) or ``64kB``, ``64MB`` (of 1000).

    None when it is not that.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        return None
    unit = match[2] or (match[4] or "")[:1]
    base = 1000 if match[3] == "B" or match[4] else 1024
    return int(int(match[1]) * base ** _POWERS.get(unit, 0))


def parse_time(text: str) -> float | None:
    """The seconds of ``500ms``, ``1.5s``, ``5m``, ``2h`` or ``7d``; None when it is not that."""
    match = _TIME.fullmatch(text)
    return None if match is None else float(match[1]) * _SECONDS[match[2]]
