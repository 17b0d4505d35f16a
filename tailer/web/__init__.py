"""The service's own port: metrics, health, hints and the status page. What is served is docs/status.md.

aiohttp is imported only when a port is opened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from tailer.errors import ConfigError

if TYPE_CHECKING:
    from tailer.core.position import ObjectRef
    from tailer.status import ServiceStatus
    from tailer.web.server import Port


class Served(Protocol):
    """What is behind the port. All of it is called on the event loop, and must not take long."""

    def status(self) -> ServiceStatus:
        """How the service is."""
        ...

    def metrics_text(self) -> str:
        """All metrics in the Prometheus text format."""
        ...

    def hint(self, ref: ObjectRef) -> bool:
        """Somebody says that `ref` changed: look at it soon. Whether it is a followed object."""
        ...


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
