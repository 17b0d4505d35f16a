"""The sending of an answer, with everything that can go wrong on the way."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import struct
import time
import zlib
from typing import TYPE_CHECKING

from aiohttp import web

from tailer.local import xml
from tailer.local.attributes import CRC, http_date
from tailer.local.call import Answer
from tailer.local.faults import NOTHING, Fault, Strikes

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from tailer.local.addressing import Target
    from tailer.local.refusal import Refusal
    from tailer.local.store import Contents

_PIECE = 1 << 20
_INLINE = 64 * 1024
_GZIP_MINIMUM = 1024
_COMPRESSED_TYPES = """
    text/cache-manifest text/xml text/plain text/css application/javascript application/x-javascript
    application/rss+xml application/json text/json
"""
_GZIP_TYPES = frozenset(_COMPRESSED_TYPES.split())
"""What the service compresses on the fly (OSS documentation, GetObject)."""


class Exchange:
    """One request and the sending of its answer, with what goes wrong on the way."""

    def __init__(self, request: web.BaseRequest, target: Target, clock: Callable[[], float]) -> None:
        self.request = request
        self.target = target
        self.operation = "Unknown"
        self.strikes = NOTHING
        self.request_id = os.urandom(12).hex().upper()
        self._clock = clock
        self._started = time.perf_counter()

    def refused(self, refusal: Refusal) -> Answer:
        """The answer that a refusal makes; HEAD has it in its headers (SDKs read x-oss-err)."""
        fields = {
            "Code": refusal.code,
            "Message": refusal.message,
            "RequestId": self.request_id,
            "HostId": self.request.headers.get("Host", ""),
            **refusal.fields,
        }
        headers = {"Content-Type": "application/xml", **refusal.headers}
        if refusal.ec is not None:
            fields |= {"EC": refusal.ec, "RecommendDoc": f"https://api.aliyun.com/troubleshoot?q={refusal.ec}"}
            headers["x-oss-ec"] = refusal.ec
        body = xml.document("Error", fields.items())
        if self.request.method == "HEAD":
            headers["x-oss-err"] = base64.b64encode(body).decode()
        return Answer(refusal.status, headers, body)

    async def suffer_before(self) -> None:
        """What goes wrong before anything is done."""
        strikes = self.strikes
        if not strikes:
            return
        stall = strikes.get("stall")
        if stall is not None and stall.at is None:
            await asyncio.sleep(stall.seconds)
        reset = strikes.get("reset")
        if reset is not None and reset.at is None:
            self._reset()
            raise Broken
        strikes.refuse()

    async def send(self, answer: Answer) -> web.StreamResponse:
        """Put the answer on the socket."""
        if self.strikes.get("lose-answer"):
            if answer.contents is not None:
                answer.contents.close()
            return self.hang_up()
        answer = _distorted(answer, self.strikes)
        # A page of a proxy carries no mark of the service.
        headers = answer.headers if self.strikes.get("html") else self._common() | answer.headers
        try:
            if self.strikes:
                return await self._send_broken(answer, headers)
            if answer.contents is not None and answer.length > _INLINE:
                return await self._stream(answer, answer.contents, headers)
            return self._whole(answer, headers)
        finally:
            if answer.contents is not None:
                answer.contents.close()

    def _common(self) -> dict[str, str]:
        skew = self.strikes.get("skew")
        now = self._clock() + (skew.by if skew else 0)
        return {
            "Server": "AliyunOSS",
            "Date": http_date(now),
            "x-oss-request-id": self.request_id,
            "x-oss-server-time": str(int((time.perf_counter() - self._started) * 1000)),
            **({"Connection": "keep-alive"} if self.request.keep_alive else {}),
        }

    def _whole(self, answer: Answer, headers: dict[str, str]) -> web.Response:
        body = answer.body
        if answer.contents is not None:
            body = bytes(answer.contents.read(answer.start, answer.length))
            if len(body) < answer.length:
                return self.hang_up()
        return web.Response(status=answer.status, headers=headers, body=body)

    async def _stream(self, answer: Answer, contents: Contents, headers: dict[str, str]) -> web.StreamResponse:
        headers["Content-Length"] = str(answer.length)
        response = web.StreamResponse(status=answer.status, headers=headers)
        await response.prepare(self.request)
        if contents.file is not None and answer.rate is None:
            sent = await self._send_file(contents.file, answer)
        else:
            sent = await self._send_pieces(response, contents, answer)
        if sent < answer.length:
            # The object lost bytes while they were sent: a cut is the only honest end.
            self._close()
        return response

    async def _send_file(self, file: BinaryIO, answer: Answer) -> int:
        transport = self.request.transport
        if transport is None:
            return 0
        loop = asyncio.get_running_loop()
        return await loop.sendfile(transport, file, answer.start, answer.length)

    async def _send_pieces(self, response: web.StreamResponse, contents: Contents, answer: Answer) -> int:
        offset, piece = answer.start, _PIECE if answer.rate is None else _paced(answer.rate)
        while offset < answer.stop:
            data = contents.read(offset, min(piece, answer.stop - offset))
            if not data:
                break
            await response.write(data)
            offset += len(data)
            if answer.rate is not None and offset < answer.stop:
                await asyncio.sleep(len(data) / answer.rate)
        return offset - answer.start

    # --- breaking things

    async def _send_broken(self, answer: Answer, headers: dict[str, str]) -> web.StreamResponse:
        """Any answer, with every fault that touches its body or its headers."""
        if self._compresses(answer):
            return self._compressed(answer, headers)
        wrong = self.strikes.get("wrong-length")
        by_itself = answer.contents is None and not self.strikes.get("cut", "reset", "stall", "slow")
        if wrong is not None or answer.contents is not None or not by_itself:
            length = int(headers.get("Content-Length", answer.length))
            headers["Content-Length"] = str(max(0, length + (wrong.by if wrong else 0)))
        if self.request.method == "HEAD" or (by_itself and wrong is None):
            return web.Response(status=answer.status, headers=headers, body=answer.body)
        response = web.StreamResponse(status=answer.status, headers=headers)
        await response.prepare(self.request)
        ended = await self._send_struck(response, answer)
        if not ended or wrong is not None:
            self._close()
        return response

    async def _send_struck(self, response: web.StreamResponse, answer: Answer) -> bool:
        """The body in pieces that end where something happens; False when it breaks off."""
        offset = 0
        slow = self.strikes.get("slow")
        rate = slow.rate if slow and slow.rate else answer.rate
        stall, cut = self.strikes.get("stall"), self.strikes.get("cut", "reset")
        while True:
            if stall is not None and stall.at == offset:
                await asyncio.sleep(stall.seconds)
            if cut is not None and cut.at == offset:
                await self._break(hard=cut.kind == "reset")
                return False
            if offset >= answer.length:
                return True
            stops = [answer.length, offset + (_PIECE if rate is None else _paced(rate))]
            stops += [fault.at for fault in (stall, cut) if fault and fault.at is not None and fault.at > offset]
            data = self._struck_bytes(answer, offset, min(stops))
            if not data:
                return False
            await response.write(data)
            offset += len(data)
            if rate is not None:
                await asyncio.sleep(len(data) / rate)

    def _struck_bytes(self, answer: Answer, start: int, stop: int) -> bytes | bytearray:
        """Bytes [start, stop) of the body."""
        if answer.contents is None:
            return answer.body[start:stop]
        offset = answer.start + start
        data = answer.contents.read(offset, stop - start)
        flip = self.strikes.get("flip-bit")
        if flip is not None and flip.at is not None and offset <= flip.at < offset + len(data):
            data = bytearray(data)
            data[flip.at - offset] ^= 1
        return data

    async def _break(self, *, hard: bool) -> None:
        """End in mid-body, behind all that was sent so far."""
        if not hard:
            self._close()
            return
        transport = self.request.transport
        if transport is None:
            return
        while not transport.is_closing() and transport.get_write_buffer_size():  # noqa: ASYNC110  has no event
            await asyncio.sleep(0.001)
        self._reset()

    def _compresses(self, answer: Answer) -> bool:
        kind = answer.headers.get("Content-Type", "").partition(";")[0]
        length = int(answer.headers.get("Content-Length", answer.length))
        return (
            self.strikes.get("gzip") is not None
            and answer.status == 200
            and "gzip" in self.request.headers.get("Accept-Encoding", "").lower()
            and kind in _GZIP_TYPES
            and length >= _GZIP_MINIMUM
            and "Content-Encoding" not in answer.headers
        )

    def _compressed(self, answer: Answer, headers: dict[str, str]) -> web.StreamResponse:
        """Without length, ETag and ranges, as the service does it (OSS documentation, GetObject)."""
        kept = {
            name: value for name, value in headers.items() if name not in ("Content-Length", "ETag", "Accept-Ranges")
        }
        kept |= {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
        packer = zlib.compressobj(wbits=31)
        body = self._struck_bytes(answer, 0, answer.length) if self.request.method != "HEAD" else b""
        response = web.Response(status=200, headers=kept, body=packer.compress(body) + packer.flush())
        if self.request.method == "HEAD":
            response = web.Response(status=200, headers=kept)
        response.enable_chunked_encoding()
        return response

    def hang_up(self) -> web.Response:
        """No answer: the connection ends."""
        self._close()
        return web.Response(status=499)

    def _close(self) -> None:
        if self.request.transport is not None:
            self.request.transport.close()

    def _reset(self) -> None:
        """RST instead of FIN."""
        transport = self.request.transport
        if transport is None:
            return
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()


class Broken(Exception):
    """The connection is gone by design."""


def _distorted(answer: Answer, strikes: Strikes) -> Answer:
    """The answer with every fault that replaces it or touches its headers."""
    if not strikes:
        return answer
    replaced = strikes.get("html", "malformed-xml")
    if replaced is not None:
        if answer.contents is not None:
            answer.contents.close()
        return _nonsense(replaced)
    headers = answer.headers
    if strikes.get("flip-crc") and CRC in headers:
        headers[CRC] = str(int(headers[CRC]) ^ 1)
    shift = strikes.get("shift-range")
    if shift is not None and answer.status == 206:
        total = headers["Content-Range"].rpartition("/")[2]
        start, last = answer.start + shift.by, answer.stop - 1 + shift.by
        headers["Content-Range"] = f"bytes {start}-{last}/{total}"
    drop = strikes.get("drop-header")
    if drop is not None:
        answer.headers = {name: value for name, value in headers.items() if name.lower() != drop.header.lower()}
    return answer


def _nonsense(fault: Fault) -> Answer:
    if fault.kind == "html":
        page = f"<html><head><title>{fault.status}</title></head><body><h1>Proxy</h1></body></html>\r\n"
        return Answer(fault.status, {"Content-Type": "text/html"}, page.encode())
    body = b'<?xml version="1.0" encoding="UTF-8"?>\n<Error>\n  <Code>' + fault.code.encode() + b"</Cod"
    return Answer(fault.status, {"Content-Type": "application/xml"}, body)


def _paced(rate: float) -> int:
    """Bytes to send at once for about twenty pieces a second."""
    return max(1, min(_PIECE, int(rate / 20)))
