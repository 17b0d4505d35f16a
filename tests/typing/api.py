"""A program that uses every public name. It is not run: `tests/test_public.py` checks its types."""

from __future__ import annotations

import tailer


def plain() -> list[bytes]:
    return list(tailer.lines("oss://bucket/app.log"))


def text() -> list[str]:
    found: tailer.Lines[str] = tailer.lines(["oss://bucket/a", "oss://bucket/b"], encoding="utf-8", follow=True)
    return list(found)


async def in_a_loop() -> list[str]:
    return [line async for line in tailer.lines("oss://bucket/app.log", encoding="utf-8")]


def handle(batch: tailer.Batch) -> None:
    records: list[tailer.Record] = list(batch.records)
    print(batch.object, batch.generation, batch.start, batch.end, batch.verified, len(records[0].data))


async def handle_later(batch: tailer.Batch) -> None:
    if len(batch.records) > 1000:
        raise tailer.SinkBusy("the database is locked")
    handle(batch)


def hear(ref: tailer.ObjectRef, event: tailer.Event) -> None:
    match event:
        case tailer.Rewound(generation, to, end) | tailer.Unconfirmed(generation, to, end):
            print(ref.key, generation, to, end)
        case tailer.Replaced() | tailer.Truncated() | tailer.Appeared() | tailer.Gone():
            print(event.generation)
        case tailer.Sealed(size):
            print(size)
        case _:
            pass


def blocking() -> None:
    tailer.tail("oss://bucket/app.log", handle, checkpoint="state.db", group="billing")
    tailer.tail("oss://bucket/app.log", on_batch=handle_later, on_event=hear)


async def consume() -> None:
    options: tailer.ConsumerOptions = {
        "integrity": "strict",
        "replaced": "restart",
        "start": "end",
        "interval": 0.1,
        "service": tailer.resolve_service(region="cn-hangzhou"),
        "positions": {"oss://bucket/app.log": tailer.Position(10, 1234, 0)},
    }
    try:
        async with tailer.Consumer("oss://bucket/app.log", checkpoint="state.db", **options) as consumer:
            async for batch in consumer:
                position: tailer.Position | None = consumer.position(batch.object)
                lag: int | None = consumer.lag(batch.object)
                await consumer.commit(batch)
                await consumer.commit()
                print(position, lag, consumer.committed(batch.object))
            consumer.pause(*consumer.refs)
            consumer.resume("oss://bucket/app.log")
            await consumer.seek("oss://bucket/app.log", 0)
            await consumer.seek(consumer.refs[0], tailer.Position())
    except (tailer.UsageError, tailer.ServiceError, tailer.IntegrityError) as error:
        known_error: tailer.TailerError = error
        print(known_error, tailer.__version__)


async def write_in_a_loop() -> tailer.Position:
    options: tailer.AppenderOptions = {"flush_interval": 0.1, "on_conflict": "continue", "metadata": {"a": "b"}}
    async with tailer.Appender("oss://bucket/app.log", **options) as out:
        await out.write(b"later")
        await out.append(b"now")
        return await out.flush()


def write() -> tailer.Position:
    try:
        with tailer.Appender("oss://bucket/app-{n:06}.log", pattern=True) as out:
            known_kind: tailer.BlockingAppender = out
            known_kind.write(b"later")
            return out.append(b"now")
    except tailer.PositionConflict as conflict:
        print(conflict.ours, conflict.theirs)
        raise
