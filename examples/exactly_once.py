"""Exactly once into SQLite: every line and the position behind it go into one transaction.

    python exactly_once.py lines.db oss://bucket/app.log

Kill it whenever you like, with -9 too, and start it again: no line is lost and none is there twice. It ends
when nothing new came for two seconds.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys

import tailer

SCHEMA = """
CREATE TABLE IF NOT EXISTS line (generation INTEGER, start INTEGER, data BLOB, PRIMARY KEY (generation, start));
CREATE TABLE IF NOT EXISTS position (object TEXT PRIMARY KEY, generation INTEGER, offset INTEGER, crc64 TEXT);
"""


def load(database: sqlite3.Connection, address: str) -> dict[str, tailer.Position]:
    """Where the last transaction ended."""
    rows = database.execute("SELECT object, generation, offset, crc64 FROM position WHERE object = ?", (address,))
    return {name: tailer.Position(offset, int(crc64), generation) for name, generation, offset, crc64 in rows}


def store(database: sqlite3.Connection, batch: tailer.Batch, position: tailer.Position) -> None:
    """The batch and its position: both or neither."""
    with database:  # one transaction
        database.executemany(
            "INSERT INTO line VALUES (?, ?, ?)",
            [(batch.generation, record.start, record.data) for record in batch.records],
        )
        database.execute(
            "REPLACE INTO position VALUES (?, ?, ?, ?)",
            # A CRC-64 has more bits than an INTEGER of SQLite.
            (str(batch.object), position.generation, position.offset, str(position.crc64)),
        )


async def main(path: str, address: str) -> None:
    database = sqlite3.connect(path)
    database.executescript(SCHEMA)
    consumer = tailer.Consumer(
        address,
        positions=load(database, address),
        integrity="strict",  # what is in the database is never taken back
        interval=0.1,
        exit_idle=2.0,
    )
    async with consumer:
        async for batch in consumer:
            position = consumer.position(batch.object)
            assert position is not None  # it is known as soon as there is a batch
            store(database, batch, position)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
