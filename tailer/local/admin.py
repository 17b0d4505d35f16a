"""The admin path: faults seen and set over HTTP, while the server runs, from this machine alone."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from tailer.local.body import RequestBody
from tailer.local.faults import Fault, Faults
from tailer.local.refusal import Refusal

PATH = "/-/faults"
_LIMIT = 1 << 20


class Admin:
    """Answers GET, POST and DELETE of `PATH`."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    async def handle(self, request: web.BaseRequest) -> web.Response:
        """One request, from this machine alone."""
        peer = request.transport.get_extra_info("peername") if request.transport else None
        if not peer or not (peer[0] == "::1" or peer[0].startswith("127.")):
            return _plain(403, "faults are set from this machine alone")
        if request.method == "DELETE":
            self._faults.clear()
        elif request.method == "POST":
            problem = await self._change(request)
            if problem:
                return _plain(400, problem)
        elif request.method != "GET":
            return _plain(405, "GET, POST or DELETE")
        report = {"faults": self._faults.report(), "injected": self._faults.injected}
        return web.Response(text=json.dumps(report, indent=2) + "\n", content_type="application/json")

    async def _change(self, request: web.BaseRequest) -> str | None:
        """What is wrong with a POST; None when it was done."""
        if request.content_type != "application/json":
            # A page in a browser cannot send this type here without being asked first (CORS).
            return "Content-Type must be application/json"
        try:
            data = json.loads(await RequestBody(request).read(_LIMIT))
            self._apply(data)
        except (ValueError, Refusal) as error:
            return str(error)
        return None

    def _apply(self, data: object) -> None:
        """One fault, or a list of them, is added; ``{"replace": […], "seed": N}`` puts others in place."""
        if isinstance(data, dict) and "replace" in data:
            if not isinstance(data.get("seed", 0), int) or data.keys() - {"replace", "seed"}:
                raise ValueError('expected {"replace": [...], "seed": N}')
            self._faults.replace(_faults(data["replace"]), data.get("seed"))
        else:
            self._faults.add(*_faults(data))


def _faults(data: Any) -> list[Fault]:
    items = data if isinstance(data, list) else [data]
    if not all(isinstance(item, dict) for item in items):
        raise ValueError("a fault is a JSON object")
    return [Fault.from_json(item) for item in items]


def _plain(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=text + "\n")
