"""Another object under the name of one that is followed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tailer.local


def renew(server: tailer.local.LocalServer, bucket: str, key: str, data: bytes) -> None:
    """Delete the object and append `data` to a new one under its name, while nobody is answered.

    The server runs in another thread: between the two, a poll would see that there is no object.
    """
    listener = server._listener
    assert listener is not None

    async def replace() -> None:
        server.store.delete(bucket, key)
        server.store.append(bucket, key, 0, data)

    asyncio.run_coroutine_threadsafe(replace(), listener.get_loop()).result()
