"""Append what the program has to say, and know that the object has it.

    python append.py oss://bucket/app.log first second third

Each word becomes a line. The object is made when it is missing; a second run goes on behind the first.
"""

from __future__ import annotations

import sys

import tailer


def main(address: str, *words: str) -> None:
    with tailer.Appender(address) as out:
        for word in words:
            out.write(word.encode() + b"\n")  # gathered, and sent within a second
        end = out.flush()  # returns when the object has them all
    print(f"{out.ref} has {end.offset} bytes, CRC-64 {end.crc64}")


if __name__ == "__main__":
    main(*sys.argv[1:])
