"""oss-tail as a library: `tail -F` for growing objects in Alibaba Cloud OSS, every byte proven.

    for line in tailer.lines("oss://bucket/app.log", follow=True): ...

    tailer.tail("oss://bucket/app.log", on_batch=handle, checkpoint="state.db")

    async with tailer.Consumer("oss://bucket/logs/*.log", group="billing", checkpoint="state.db") as consumer:
        async for batch in consumer:
            await process(batch)
            await consumer.commit(batch)

    with tailer.Appender("oss://bucket/app.log") as out:
        out.append(b"done when this returns")

Nothing is imported before it is asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tailer.appender import Appender, AppenderOptions, BlockingAppender
    from tailer.config import resolve_service
    from tailer.consumer import Consumer, ConsumerOptions
    from tailer.core.events import (
        Appeared,
        Batch,
        Event,
        Gone,
        Record,
        Replaced,
        Rewound,
        Sealed,
        Truncated,
        Unconfirmed,
    )
    from tailer.core.position import ObjectRef, Position
    from tailer.errors import IntegrityError, PositionConflict, ServiceError, SinkBusy, TailerError, UsageError
    from tailer.loops import Lines, lines, tail
    from tailer.version import __version__

__all__ = [
    "Appeared",
    "Appender",
    "AppenderOptions",
    "Batch",
    "BlockingAppender",
    "Consumer",
    "ConsumerOptions",
    "Event",
    "Gone",
    "IntegrityError",
    "Lines",
    "ObjectRef",
    "Position",
    "PositionConflict",
    "Record",
    "Replaced",
    "Rewound",
    "Sealed",
    "ServiceError",
    "SinkBusy",
    "TailerError",
    "Truncated",
    "Unconfirmed",
    "UsageError",
    "__version__",
    "lines",
    "resolve_service",
    "tail",
]

_HOMES = {
    **dict.fromkeys(("Appender", "AppenderOptions", "BlockingAppender"), "appender"),
    **dict.fromkeys(("Consumer", "ConsumerOptions"), "consumer"),
    **dict.fromkeys(("Lines", "lines", "tail"), "loops"),
    **dict.fromkeys(
        ("Appeared", "Batch", "Event", "Gone", "Record", "Replaced", "Rewound", "Sealed", "Truncated", "Unconfirmed"),
        "core.events",
    ),
    **dict.fromkeys(("ObjectRef", "Position"), "core.position"),
    **dict.fromkeys(
        ("IntegrityError", "PositionConflict", "ServiceError", "SinkBusy", "TailerError", "UsageError"), "errors"
    ),
    "__version__": "version",
    "resolve_service": "config",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
