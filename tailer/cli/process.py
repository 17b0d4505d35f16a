"""What every command does with its process before anything else."""

from __future__ import annotations

import contextlib
import os
import resource


def occupy_standard_descriptors() -> None:
    """If 0, 1 or 2 is closed, the next file or socket opened would get its number, and our output."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # The other direction than is used, so that using it is an error still.
            os.open(os.devnull, os.O_WRONLY if descriptor == 0 else os.O_RDONLY)


def allow_many_files() -> None:
    """Many objects take many files and connections: as many as the system lets us, not the usual 1,024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # some systems have a lower limit still; then it stays as it is
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
