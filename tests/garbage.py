"""What is left to the cyclic garbage collector, which comes late and until then holds memory, and what it refers to."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def collecting() -> Iterator[list[str]]:
    """At the end of the block the list holds what of the package only the collector freed: types, and functions whose
    frames a traceback held. `oss-local`, which runs beside it, is left out."""
    left: list[str] = []
    gc.collect()
    gc.disable()
    try:
        yield left
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        left += sorted({name for name in map(_name, gc.garbage) if name.startswith("tailer.")})
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def _name(one: object) -> str:
    module = one.f_globals["__name__"] if isinstance(one, FrameType) else type(one).__module__
    name = one.f_code.co_name if isinstance(one, FrameType) else type(one).__name__
    return "" if module.startswith("tailer.local") else f"{module}.{name}"
