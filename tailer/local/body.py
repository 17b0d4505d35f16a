"""A request's body as it comes in from aiohttp."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailer.local.refusal import Refusal

if TYPE_CHECKING:
    import hashlib

    from aiohttp import web

    from tailer.local.store import Upload


class RequestBody:
    """A request's body as it comes in; the client is told to go on when it waits for that."""

    def __init__(self, request: web.BaseRequest) -> None:
        self._request = request
        self.length = request.content_length
        self.present = self.length is not None or "chunked" in request.headers.get("Transfer-Encoding", "").lower()

    async def spool(self, upload: Upload, limit: int, digest: hashlib._Hash | None) -> None:
        """All of it into `upload`."""
        if (self.length or 0) > limit:
            raise _too_large(limit)
        await self._go_on()
        while chunk := await self._request.content.readany():
            if upload.size + len(chunk) > limit:
                raise _too_large(limit)
            upload.write(chunk)
            if digest is not None:
                digest.update(chunk)

    async def read(self, limit: int) -> bytes:
        """All of a small one."""
        if (self.length or 0) > limit:
            raise _too_large(limit)
        await self._go_on()
        body = bytearray()
        while chunk := await self._request.content.readany():
            body += chunk
            if len(body) > limit:
                raise _too_large(limit)
        return bytes(body)

    async def _go_on(self) -> None:
        if self._request.headers.get("Expect", "").lower() == "100-continue" and self._request.transport:
            self._request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def _too_large(limit: int) -> Refusal:
    message = "Your proposed upload exceeds the maximum allowed size."
    return Refusal(400, "EntityTooLarge", message, fields={"MaxSizeAllowed": str(max(0, limit))})
