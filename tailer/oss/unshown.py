"""Values that are used like any others, and shown to nobody.

Whoever collects errors, prints them prettily or debugs may print the local variables of every frame, too, by their
``repr``. What signs a request, and what is signed, is therefore kept in these as soon as it is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class UnshownDict(dict[str, str]):
    """Headers, settings: only how many there are is shown."""

    def __repr__(self) -> str:
        return f"<{len(self)} values>"


class UnshownEnvironment(Mapping[str, str]):
    """The environment as it is at any time: not even its names are shown."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def __getitem__(self, name: str) -> str:
        return self._environ[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._environ)

    def __len__(self) -> int:
        return len(self._environ)

    def __repr__(self) -> str:
        return f"<{len(self)} variables>"


class UnshownUrl(str):
    """A URL: shown without its query, which may be a signature."""

    __slots__ = ()

    def __repr__(self) -> str:
        address, mark, _ = self.partition("?")
        return repr(address + mark + "…" * len(mark))


class UnshownBytes(bytes):
    """A request as it is sent: only its size is shown."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{len(self)} bytes>"
