"""The service's own port: metrics, health, hints and the status page. What is served is docs/status.md.

aiohttp is imported only when a port is opened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailer.errors import ConfigError

if TYPE_CHECKING:
    from tailer.web.server import Port, Served


async def serve(served: Served, host: str, port: int, *, hints: bool = True) -> Port:
    """Open the port (0: any that is free) and serve until `Port.close`; without `hints` none are taken.

    Raises ConfigError when the address cannot be had, or aiohttp is not installed.
    """
    try:
        from tailer.web.server import Port
    except ImportError as error:
        raise ConfigError("the port needs the package aiohttp", hint="pip install 'oss-tail[service]'") from error
    opened = Port(served, hints=hints)
    await opened.open(host, port)
    return opened
