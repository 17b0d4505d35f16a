"""One way of reading the lines of an object: ``lines_loop.py WAY URL``. Prints how many there are."""

import asyncio
import sys
from urllib.parse import urlsplit

WINDOW = 8 * 1024 * 1024


def by_lines(url: str) -> int:
    import tailer

    return sum(1 for _ in tailer.lines(object_of(url)))


def by_batches(url: str) -> int:
    import tailer

    async def main() -> int:
        async with tailer.Consumer(object_of(url), follow=False) as consumer:
            return sum([len(batch.records) async for batch in consumer])

    return asyncio.run(main())


def by_smart_open(url: str) -> int:
    import smart_open

    with smart_open.open(url, "rb") as file:
        return sum(1 for _ in file)


def by_oss2(url: str) -> int:
    """Ranged GETs in a loop, the CRC-64 kept along, the unfinished line carried over."""
    import oss2
    from oss2.utils import Crc64

    parts = urlsplit(url)
    name, key = parts.path.lstrip("/").split("/", 1)
    bucket = oss2.Bucket(oss2.Auth("bench", "bench-secret"), f"http://{parts.netloc}", name, enable_crc=True)
    meta = bucket.head_object(key)
    crc, offset, count, rest = Crc64(), 0, 0, b""
    while offset < meta.content_length:
        window = bucket.get_object(key, byte_range=(offset, min(offset + WINDOW, meta.content_length) - 1)).read()
        crc.update(window)
        offset += len(window)
        *lines, rest = (rest + window).split(b"\n")
        for _ in lines:
            count += 1
    if crc.crc != int(meta.server_crc):
        sys.exit("the CRC-64 does not match")
    return count + bool(rest)


def object_of(url: str) -> str:
    return f"oss:/{urlsplit(url).path}"


WAYS = {"lines": by_lines, "batches": by_batches, "smart_open": by_smart_open, "oss2": by_oss2}

if __name__ == "__main__":
    print(WAYS[sys.argv[1]](sys.argv[2]))
