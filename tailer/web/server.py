"""The port over HTTP. Everything is made on the event loop, from values that change nowhere else."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import ipaddress
import json
import logging
import math
import os
import re
from collections.abc import Mapping
from dataclasses import fields
from importlib import resources
from typing import TYPE_CHECKING, Any, Protocol

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from tailer.errors import ConfigError, UsageError
from tailer.metrics import CONTENT_TYPE
from tailer.version import __version__
from tailer.web.hints import MAX_BODY, parse_hints, spellings
from tailer.web.verdict import judge

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from tailer.core.position import ObjectRef
    from tailer.status import ServiceStatus

MAX_LISTENERS = 32
"""How many may listen to /events at once."""

_TICK = 1.0  # seconds between two events
_WRITE_TIMEOUT = 10.0  # seconds that a listener may take nothing before it is taken for gone
_BODY_TIMEOUT = 10.0  # seconds that a body of at most MAX_BODY bytes may take
_LINGER = 2.0  # seconds for which what a client still sends after a refusal is thrown away

_NO_NUMBER = re.compile(r"[:,\[](?:NaN|-?Infinity)")  # in text, too: then it is read once for nothing
_POLICY = "Content-Security-Policy"
_HEADERS = {
    "Cache-Control": "no-store",
    _POLICY: "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": f"oss-tailer/{__version__}",
    "X-Content-Type-Options": "nosniff",
}

# Names that nobody can own on the internet: RFC 6761, RFC 6762, RFC 8375, ICANN's .internal, and those of Kubernetes.
_PRIVATE_NAME = re.compile(r"(?:[a-z0-9_-]+|.+\.(?:localhost|local|internal|home\.arpa|svc))\.?", re.IGNORECASE)


class Served(Protocol):
    """What is behind the port. All of it is called on the event loop, and must not take long."""

    def status(self) -> ServiceStatus:
        """How the service is."""
        ...

    def moves(self) -> bool:
        """Is all of it in motion? Where not, nothing but a new process helps."""
        ...

    def metrics_text(self) -> str:
        """All metrics in the Prometheus text format."""
        ...

    def hint(self, ref: ObjectRef) -> bool:
        """Somebody says that `ref` changed: look at it soon. Whether it is a followed object."""
        ...


class Port:
    """A listening port over one `Served`."""

    def __init__(self, served: Served, *, hints: bool = True) -> None:
        self._served = served
        self._listeners = 0
        self._latest = (-math.inf, b"")  # an event, and when it was made
        self._closing = asyncio.Event()
        self._listener: asyncio.Server | None = None
        self._page = _read_page()
        self._runner = web.AppRunner(
            self._application(hints),
            access_log=None,
            logger=_quiet_logger(),
            auto_decompress=False,
            lingering_time=_LINGER,
            shutdown_timeout=1.0,
        )

    def _application(self, hints: bool) -> web.Application:
        application = web.Application(middlewares=[_guard], client_max_size=MAX_BODY)
        application.on_response_prepare.append(_add_headers)
        get = application.router.add_get
        get("/", self._show_page)
        get("/metrics", self._show_metrics)
        get("/livez", self._show_life)
        get("/healthz", self._show_health)
        get("/readyz", self._show_readiness)
        get("/status.json", self._show_status)
        get("/events", self._stream, allow_head=False)
        if hints:
            application.router.add_post("/hints", self._take_hints, expect_handler=_expect)
        return application

    async def open(self, host: str, port: int) -> int:
        """Accept connections; which port it is, for port 0. Raises ConfigError when the address cannot be had."""
        await self._runner.setup()
        protocol = self._runner.server
        assert protocol is not None
        try:
            self._listener = await asyncio.get_running_loop().create_server(protocol, host, port)
        except OSError as error:
            await self._runner.cleanup()
            where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            hint = "[server] listen says where, or false"
            raise ConfigError(f"cannot serve on {where}: {_reason(error)}", hint=hint) from error
        return self.port

    @property
    def port(self) -> int:
        """The number of the open port."""
        assert self._listener is not None
        return int(self._listener.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop serving; who listens to events is told that it is over."""
        self._closing.set()
        if self._listener is not None:
            loop = asyncio.get_running_loop()
            for listening in self._listener.sockets:
                loop.remove_reader(listening.fileno())
            # A connection accepted a moment ago still gets its transport now; asyncio forgets one of a closed server.
            await asyncio.sleep(0)
            self._listener.close()
        await self._runner.cleanup()

    # --- what is served

    async def _show_page(self, _: web.Request) -> web.Response:
        html, policy = self._page
        return web.Response(body=html, content_type="text/html", charset="utf-8", headers={_POLICY: policy})

    async def _show_metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=self._served.metrics_text().encode(), headers={"Content-Type": CONTENT_TYPE})

    async def _show_life(self, _: web.Request) -> web.Response:
        return _lines("ok", ()) if self._served.moves() else _lines("stands still", (), 503)

    async def _show_health(self, _: web.Request) -> web.Response:
        status = self._served.status()
        return _lines("ok", ()) if status.healthy else _lines("not healthy", status.problems, 503)

    async def _show_readiness(self, _: web.Request) -> web.Response:
        status = self._served.status()
        return _lines("ready", ()) if status.ready else _lines("not ready", status.problems, 503)

    async def _show_status(self, _: web.Request) -> web.Response:
        return web.json_response(text=status_json(self._served.status()))

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events (HTML standard, 9.2): a status at once, and then one each second."""
        if self._listeners >= MAX_LISTENERS:
            raise web.HTTPServiceUnavailable(text=f"{MAX_LISTENERS} listen already", headers={"Retry-After": "5"})
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
        self._listeners += 1
        # The end of a connection is no error of ours: the listener went, or takes nothing any more.
        with contextlib.suppress(ConnectionError, TimeoutError):
            try:
                await response.prepare(request)
                await response.write(b"retry: 2000\n\n")
                await self._send_events(response)
            finally:
                self._listeners -= 1
        return response

    async def _send_events(self, response: web.StreamResponse) -> None:
        while not self._closing.is_set():
            async with asyncio.timeout(_WRITE_TIMEOUT):
                await response.write(self._event())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TICK):
                    await self._closing.wait()

    def _event(self) -> bytes:
        """The same for all who listen: they cost as much as one."""
        now = asyncio.get_running_loop().time()
        made_at, event = self._latest
        if now - made_at >= _TICK * 0.9:
            event = b"data: " + status_json(self._served.status()).encode() + b"\n\n"
            self._latest = now, event
        return event

    async def _take_hints(self, request: web.Request) -> web.Response:
        _refuse_foreign_page(request)
        _check_length(request)
        try:
            async with asyncio.timeout(_BODY_TIMEOUT):
                body = await request.read()
            named = parse_hints(body)
        except TimeoutError as error:
            raise web.HTTPRequestTimeout(text="the body did not come") from error
        except UsageError as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        known = sum(self._wake(ref) for ref in named)
        # What a topic of the queue takes for success is 204 alone (Simple Message Queue documentation, "HttpEndpoint").
        if "x-mns-request-id" in request.headers:
            return web.Response(status=204)
        return web.json_response({"known": known, "unknown": len(named) - known})

    def _wake(self, ref: ObjectRef) -> bool:
        return any(self._served.hint(one) for one in spellings(ref))


def status_json(status: ServiceStatus) -> str:
    """A status with its verdict, on one line of ASCII. What JSON has no number for is null."""
    value = {**_fields(status), "verdict": judge(status)}
    text = json.dumps(value, default=_fields, separators=(",", ":"))
    if _NO_NUMBER.search(text):
        text = json.dumps(json.loads(text, parse_constant=lambda _: None), separators=(",", ":"))
    return text


def _fields(value: Any) -> dict[str, Any]:
    """Of a dataclass, one level: `asdict` would copy all that is in it, which is most of the time that this takes."""
    if isinstance(value, Mapping):
        return dict(value)
    return {field.name: getattr(value, field.name) for field in fields(value)}


def _read_page() -> tuple[bytes, str]:
    """The page, and the policy that lets nothing run in it but its own script, and go nowhere but here."""
    html = resources.files("tailer.web").joinpath("page.html").read_text("utf-8")
    policy = (
        f"default-src 'none'; connect-src 'self'; img-src data:; script-src {_hash_of('script', html)}; "
        f"style-src {_hash_of('style', html)}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return html.encode(), policy


def _hash_of(element: str, html: str) -> str:
    """Of what is between the tags (Content Security Policy Level 3, "script-src")."""
    inside = html.partition(f"<{element}>")[2].partition(f"</{element}>")[0]
    return f"'sha256-{base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()}'"


def _lines(first: str, problems: Iterable[str], status: int = 200) -> web.Response:
    lines = [" ".join(line.split()) for line in problems]
    return web.Response(text="".join(f"{line}\n" for line in lines or [first]), status=status)


# --- who may ask what


@web.middleware
async def _guard(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Refusals are one line of text. A page of somebody else's whose name suddenly means our address gets nothing."""
    try:
        _check_host(request)
        return await handler(request)
    except web.HTTPException as refusal:
        return _refusal(refusal)


def _refusal(refusal: web.HTTPException) -> web.Response:
    kept = {name: refusal.headers[name] for name in ("Allow", "Retry-After") if name in refusal.headers}
    response = web.Response(status=refusal.status, text=f"{_said(refusal)}\n", headers=kept)
    if refusal.status in (408, 413):
        response.force_close()
    return response


def _said(refusal: web.HTTPException) -> str:
    match refusal.status:
        case 404:
            return "there is nothing here: see /, /status.json, /metrics, /healthz, /readyz, /livez"
        case 405:
            return f"this takes {refusal.headers['Allow']}"
        case 413:
            return f"a body may have {MAX_BODY} bytes at most"
    return refusal.text or refusal.reason


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update({**_HEADERS, _POLICY: response.headers.get(_POLICY, _HEADERS[_POLICY])})


def _check_host(request: web.Request) -> None:
    """Against DNS rebinding: an address as it is, or a name that no stranger can own. Not every client sends one."""
    host = request.headers.get("Host", "")
    name = host.rpartition(":")[0] if re.search(r":[0-9]*$", host) else host
    if host and not (_PRIVATE_NAME.fullmatch(name) or _is_address(name)):
        text = "this port answers to addresses and to names of private networks alone: a proxy has to send one as Host"
        raise web.HTTPMisdirectedRequest(text=text)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def _refuse_foreign_page(request: web.Request) -> None:
    """A browser says whose page sends a request (Fetch Metadata, "Sec-Fetch-Site")."""
    if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
        raise web.HTTPForbidden(text="hints from pages of others are not taken")


def _check_length(request: web.Request) -> None:
    if request.content_length is not None and request.content_length > MAX_BODY:
        raise web.HTTPRequestEntityTooLarge(MAX_BODY, request.content_length)


async def _expect(request: web.Request) -> web.Response | None:
    """Who asks before sending a body (RFC 9110, 10.1.1) is told at once that it is too long."""
    try:
        _check_length(request)
    except web.HTTPRequestEntityTooLarge as refusal:
        return _refusal(refusal)
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # that was no beginning of the answer
    return None


def _reason(error: OSError) -> str:
    """Of one address or of several, in the words of the system."""
    return os.strerror(error.errno) if error.errno else str(error)


def _quiet_logger() -> logging.Logger:
    """What is no HTTP is answered with a 400, and no matter for a log: whoever finds the port could fill it."""
    logger = logging.getLogger("tailer.web")
    logger.addFilter(_is_ours)
    return logger


def _is_ours(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))
