"""An OSS-compatible server for demos, tests and anyone's CI: ``oss-local`` as a library.

    async with tailer.local.LocalServer(buckets=["b"]) as server: ...
    with tailer.local.running(buckets=["b"]) as server: ...

Needs the extra ``local``. Nothing is imported before it is asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tailer.local.faults import Fault
    from tailer.local.keys import AccessKey
    from tailer.local.server import LocalServer, running
    from tailer.local.store import Attributes

__all__ = ["AccessKey", "Attributes", "Fault", "LocalServer", "running"]

_HOMES = {
    "AccessKey": "keys",
    "Attributes": "store",
    "Fault": "faults",
    "LocalServer": "server",
    "running": "server",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
