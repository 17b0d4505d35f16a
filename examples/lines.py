"""Count the lines of an object that hold a word.

python lines.py ERROR oss://bucket/app.log
"""

from __future__ import annotations

import sys

import tailer


def main(word: str, address: str) -> None:
    print(sum(word in line for line in tailer.lines(address, encoding="utf-8", errors="replace")))


if __name__ == "__main__":
    main(*sys.argv[1:])
