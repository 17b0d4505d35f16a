"""Hand every batch to a function, and go on where the last run stopped.

    python handler.py state.db oss://bucket/app.log

What the function raises ends the run, and the batch comes again in the next one. This run ends when nothing
new came for a second.
"""

from __future__ import annotations

import sys

import tailer


def handle(batch: tailer.Batch) -> None:
    print(f"{batch.object} {batch.start}-{batch.end}: {len(batch.records)} records", flush=True)


def main(checkpoint: str, address: str) -> None:
    tailer.tail(address, handle, checkpoint=checkpoint, interval=0.1, exit_idle=1.0)


if __name__ == "__main__":
    main(*sys.argv[1:])
