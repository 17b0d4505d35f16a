"""Many objects with commits of your own, and word of what happens to them.

    python consumer.py state.db 'oss://bucket/logs/*.log'

It ends when nothing new came for a second.
"""

from __future__ import annotations

import asyncio
import sys

import tailer


def hear(ref: tailer.ObjectRef, event: tailer.Event) -> None:
    if isinstance(event, tailer.Replaced | tailer.Truncated | tailer.Gone | tailer.Rewound):
        print(f"{ref}: {event}", file=sys.stderr)


async def main(checkpoint: str, pattern: str) -> None:
    async with tailer.Consumer(
        pattern,
        checkpoint=checkpoint,
        group="billing",
        replaced="restart",
        on_event=hear,
        interval=0.1,
        exit_idle=1.0,
    ) as consumer:
        async for batch in consumer:
            for record in batch.records:
                print(record.data.decode())
            await consumer.commit(batch)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
