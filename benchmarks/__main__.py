"""``make bench``: every benchmark side by side in one run; medians and ratios go to docs/benchmarks.md.

``python -m benchmarks catchup shaped`` runs some of them and prints their tables.
"""

from __future__ import annotations

import platform
import sys
import time
from pathlib import Path

from benchmarks import append, catchup, checkpoints, latency, library, local, mirror, small

REPORT = Path(__file__).parent.parent / "docs" / "benchmarks.md"
SECTIONS = {
    "catchup": catchup.fast_line,
    "shaped": catchup.slow_line,
    "latency": latency.append_to_output,
    "checkpoints": checkpoints.cost,
    "mirror": mirror.into_files,
    "library": library.lines,
    "startup": small.start_up,
    "idle": small.idle_poll,
    "local": local.server,
    "append": append.writing,
}


def main(names: list[str]) -> None:
    unknown = [name for name in names if name not in SECTIONS]
    if unknown:
        sys.exit(f"no such benchmark: {', '.join(unknown)} (there are {', '.join(SECTIONS)})")
    parts = []
    for name, section in SECTIONS.items():
        if not names or name in names:
            print(f"… {name}", file=sys.stderr, flush=True)
            parts.append(section())
            print(parts[-1] + "\n", flush=True)
    if not names:
        REPORT.write_text(heading() + "\n\n".join(parts) + "\n")


def heading() -> str:
    return (
        "# Benchmarks\n\n"
        "What the sections of `make bench` print. Every table is one run in which the candidates took turns\n"
        "(A B C A B C …) on the same machine; figures are medians, ratios are medians of the ratios taken run by\n"
        "run. Absolute figures belong to this machine alone; the ratios are what carries over. Peak RSS is the\n"
        "largest single process's, and never shows less than the 30 to 55 MiB of the benchmark that starts it.\n\n"
        f"{time.strftime('%Y-%m-%d')}, {platform.system()} {platform.machine()}, 2 cores, "
        f"Python {platform.python_version()}.\n\n"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
