"""From aiohttp's requests to operations: found, named, hit by faults, signed by whom, allowed."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from tailer.local import admin
from tailer.local.addressing import locate
from tailer.local.auth import Authenticator, SignedRequest
from tailer.local.body import RequestBody
from tailer.local.call import Answer, Call
from tailer.local.exchange import Broken, Exchange
from tailer.local.operations import COPY, Operation, choose
from tailer.local.refusal import Refusal, invalid_argument

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from tailer.local.faults import Faults, Strikes
    from tailer.local.keys import AccessKey
    from tailer.local.service import Service

log = logging.getLogger("oss-local")

_GONE = (ConnectionError, web.RequestPayloadError, HttpProcessingError)


class Wire:
    """The request handler. `cnames` and `domains` as in `addressing.locate`."""

    def __init__(
        self,
        service: Service,
        authenticator: Authenticator,
        faults: Faults,
        *,
        clock: Callable[[], float],
        cnames: Mapping[str, str],
        domains: Collection[str],
    ) -> None:
        self._service = service
        self._authenticator = authenticator
        self._faults = faults
        self._admin = admin.Admin(faults)
        self._clock = clock
        self._cnames = cnames
        self._domains = domains

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, whatever it is."""
        started = time.perf_counter()
        host = request.headers.get("Host", "")
        target = locate(host, request.raw_path, self._cnames, self._domains)
        if target.path == admin.PATH and not target.named_by_host:
            return await self._admin.handle(request)
        exchange = Exchange(request, target, self._clock)
        path = request.raw_path.partition("?")[0]
        try:
            answer = await self._answer_whatever(exchange)
            response = await exchange.send(answer)
        except Broken:
            return exchange.hang_up()
        except _GONE:
            log.info("%s %s %s: the client went away", exchange.operation, request.method, path)
            return exchange.hang_up()
        if log.isEnabledFor(logging.INFO):
            taken = (time.perf_counter() - started) * 1000
            log.info("%s %s %s %d %.1f ms", exchange.operation, request.method, path, answer.status, taken)
        return response

    async def _answer_whatever(self, exchange: Exchange) -> Answer:
        """The answer, be it a refusal or an internal error; raises when there is nobody to answer to."""
        try:
            return await self._answer(exchange)
        except Refusal as refusal:
            return exchange.refused(refusal)
        except (Broken, *_GONE):
            raise
        except Exception:
            log.exception("%s failed", exchange.operation)
            return exchange.refused(Refusal(500, "InternalError", "We encountered an internal error."))

    async def _answer(self, exchange: Exchange) -> Answer:
        request, target = exchange.request, exchange.target
        query = _first_values(target.query)
        operation = self._choose(exchange, query)
        await exchange.suffer_before()
        headers = _lower(request)
        call = Call(
            method=request.method,
            bucket=target.bucket,
            key=target.key,
            query=query,
            headers=headers,
            body=RequestBody(request),
            strikes=exchange.strikes,
        )
        signed = SignedRequest(request.method, target.bucket, target.key, target.query, headers)
        call.caller = self._identify(signed, exchange.strikes)
        await self._service.settle(call)
        self._service.authorize(call, operation.name, operation.access)
        return await operation.handler(self._service, call)

    def _choose(self, exchange: Exchange, query: Mapping[str, str]) -> Operation:
        """The operation, and what goes wrong with it; an unknown one can be made to go wrong as well."""
        request, target = exchange.request, exchange.target
        bucket, key = target.bucket or "", target.key or ""
        try:
            operation = choose(request.method, target.bucket, target.key, query, is_copy=COPY in request.headers)
        except Refusal:
            exchange.strikes = self._faults.strike("Unknown", request.method, bucket, key)
            raise
        exchange.operation = operation.name
        exchange.strikes = self._faults.strike(operation.name, request.method, bucket, key)
        return operation

    def _identify(self, signed: SignedRequest, strikes: Strikes) -> AccessKey | None:
        skew = strikes.get("skew")
        if skew is None:
            return self._authenticator.identify(signed)
        authenticator = self._authenticator
        shifted = Authenticator(
            authenticator.keys.values(), region=authenticator.region, clock=lambda: self._clock() + skew.by
        )
        return shifted.identify(signed)


def _first_values(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The query by name; of several equal names the first counts. Raises InvalidArgument for what is no UTF-8."""
    query: dict[str, str] = {}
    for name, value in pairs:
        if not (_is_text(name) and _is_text(value)):
            shown = value.encode("utf-8", "replace").decode()
            raise invalid_argument(name.encode("utf-8", "replace").decode(), shown, "The query is not UTF-8.")
        query.setdefault(name, value)
    return query


def _is_text(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _lower(request: web.BaseRequest) -> dict[str, str]:
    """Headers by their lower-case name; several of one name are joined (RFC 9110 section 5.3)."""
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        key = name.lower()
        headers[key] = f"{headers[key]},{value}" if key in headers else value
    return headers
