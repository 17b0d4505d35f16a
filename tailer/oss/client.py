"""The operations of OSS that following and appending need, each one request and one answer.

A `Client` never retries and never sleeps; whoever calls it knows better when to. Two refusals are its own
to mend, each at once and once only: a clock that is off is learnt from the refusal's date, and expired
credentials are fetched again.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from tailer.core.position import ObjectMeta, Window
from tailer.core.ranges import ByteRange
from tailer.errors import (
    AccessDenied,
    ClockSkewed,
    ConfigError,
    ConnectionLost,
    CredentialsExpired,
    ProtocolError,
    RangeIgnored,
    RangeNotSatisfiable,
    TailerError,
    TransportError,
    UsageError,
)
from tailer.oss.address import Endpoint, check_bucket, check_key, object_url
from tailer.oss.credentials import Anonymous
from tailer.oss.messages import (
    MAX_ERROR_BODY,
    MAX_LIST_BODY,
    ListPage,
    answered_by_oss,
    check_partial,
    content_length,
    crc64_header,
    error_from_response,
    meta_from_headers,
    next_position,
    parse_list,
)
from tailer.oss.signing import Request, encode_query, sign_v1, sign_v4
from tailer.oss.transport import Data, Kind, Response, Timeouts, Transport, open_transport
from tailer.oss.unshown import UnshownDict, UnshownUrl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from contextlib import AbstractAsyncContextManager
    from typing import Any, Self

    from tailer.core.position import ObjectRef
    from tailer.core.ranges import ContentRange
    from tailer.oss.address import Address
    from tailer.oss.credentials import Credentials, CredentialsProvider

    Observe = Callable[[str, int | None, float, int], None]
    """Told after each request: operation, status (None: no answer), seconds, bytes of the body read."""

SignatureVersion = Literal["v4", "v1"]

_IDENTITY = MappingProxyType({"accept-encoding": "identity"})


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """Where the service is and how to speak with it.

    `endpoint` None: only objects known by their URL can be read. `buckets` holds endpoints for single
    buckets. `region` is needed to sign with V4. `transport` None: the fast one where it is installed.
    """

    credentials: CredentialsProvider
    endpoint: Endpoint | None = None
    region: str | None = None
    buckets: Mapping[str, Endpoint] = field(default_factory=dict)
    sign_version: SignatureVersion = "v4"
    transport: Kind | None = None
    timeouts: Timeouts = field(default_factory=Timeouts)

    def endpoint_of(self, bucket: str) -> Endpoint:
        """Where requests for `bucket` go. Raises ConfigError when nothing says where."""
        endpoint = self.buckets.get(bucket) or self.endpoint
        if endpoint is None:
            raise ConfigError("no endpoint is set: give one, or a region")
        return endpoint

    def region_of(self, bucket: str) -> str | None:
        """The region that a signature for `bucket` must name; None when it is not known."""
        special = self.buckets.get(bucket)
        return (special.region if special else None) or self.region

    def in_clear(self, address: Address) -> str | None:
        """``http://host`` where a request for `address` goes signed but unencrypted to another machine, else None.

        Whoever is on the way reads the data, a security token, and a signature that is good for 15 minutes more (in
        a presigned URL until it expires). Raises ConfigError like `endpoint_of`.
        """
        if address.url is not None:
            place, signed = Endpoint(address.ref.scheme, address.ref.bucket), address.presigned
        else:
            place, signed = self.endpoint_of(address.ref.bucket), not isinstance(self.credentials, Anonymous)
        return str(place) if signed and place.scheme == "http" and not place.loopback else None


@dataclass(frozen=True, slots=True)
class AppendResult:
    """What an append left behind: the object's length in bytes, and the CRC-64 of all of it if stated."""

    next_position: int
    crc64: int | None


def connect(
    settings: ServiceSettings, addresses: Iterable[Address] = (), *, on_request: Observe | None = None
) -> Client:
    """A client over the transport that `settings` ask for. Raises ConfigError.

    An endpoint on this very machine is asked directly, whatever proxies the environment names.
    """
    proxies = settings.endpoint is None or not settings.endpoint.loopback
    transport = open_transport(settings.transport, timeouts=settings.timeouts, proxies=proxies)
    client = Client(settings, transport, on_request=on_request)
    for address in addresses:
        client.add(address)
    return client


class Client:
    """Reads, appends and lists. It is an `ObjectReader`. Close it with `aclose` or use it in ``async with``."""

    def __init__(
        self,
        settings: ServiceSettings,
        transport: Transport,
        *,
        on_request: Observe | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._transport = transport
        self._on_request = on_request
        self._clock = clock
        self._clock_offset = 0.0
        self._urls: dict[ObjectRef, str] = {}
        self._presigned_refs: set[ObjectRef] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._transport.aclose()

    def add(self, address: Address) -> None:
        """Remember the URL of an object that was given as one: its query is not part of its name."""
        if address.url is not None:
            self._urls[address.ref] = address.url
            (self._presigned_refs.add if address.presigned else self._presigned_refs.discard)(address.ref)

    async def head(self, ref: ObjectRef) -> ObjectMeta:
        """The object's metadata. Raises ObjectNotFound and whatever else the service refuses with.

        A presigned URL is good for GET alone, so its first byte is asked for instead.
        """
        if self._presigned(ref):
            return await self._head_by_get(ref)
        async with self._exchange("head", Request("HEAD", ref.bucket, ref.key, headers=_IDENTITY), ref) as answer:
            _expect_ok(answer, ref)
            return meta_from_headers(answer.header)

    async def _head_by_get(self, ref: ObjectRef) -> ObjectMeta:
        first = Request("GET", headers={**_IDENTITY, "range": "bytes=0-0"})
        try:
            async with self._exchange("get", first, ref) as answer:
                if answer.status == 200 and content_length(answer.header) == 0:
                    return replace(meta_from_headers(answer.header), crc64=0)  # an empty object, sealed or not
                carried = check_partial(answer.status, answer.header, ByteRange(0, 1))
                await answer.read(2)  # to its end: the connection lives on
                return meta_from_headers(answer.header, size=carried.size)
        except RangeNotSatisfiable:
            return ObjectMeta(size=0, crc64=0)  # an object without a first byte; a refusal says no more of it

    async def fetch(self, ref: ObjectRef, range: ByteRange) -> Window:
        """The bytes of `range` that exist now, at least one, starting at its first.

        Raises RangeNotSatisfiable when the object ends at or before ``range.start``, RangeIgnored when the
        answer holds another range, ConnectionLost when the body was cut.
        """
        presigned = self._presigned(ref)
        if presigned:
            # Whether x-oss-range-behavior was signed into the URL cannot be seen, and without it a range
            # that ends behind the last byte brings the whole object: ask without an end.
            headers = {**_IDENTITY, "range": f"bytes={range.start}-"}
        else:
            headers = {**_IDENTITY, "range": range.header, "x-oss-range-behavior": "standard"}
        async with self._exchange("get", Request("GET", ref.bucket, ref.key, headers=headers), ref) as answer:
            if ref.scheme != "oss":
                _refuse_whole_object(answer, range.start)
            carried = check_partial(answer.status, answer.header, range, open_ended=presigned)
            data = await _read_window(answer, carried, range)
            return Window(range.start, data, meta_from_headers(answer.header, size=carried.size))

    async def append(
        self, ref: ObjectRef, position: int, data: Data, headers: Mapping[str, str] | None = None
    ) -> AppendResult:
        """Add `data` at `position`, which must be the object's length in bytes; 0 makes the object.

        `headers` count at the first append alone, but for x-oss-object-acl (OSS documentation,
        AppendObject). Raises PositionMismatch, NotAppendable, ObjectSealed. After a TransportError or a
        ServiceUnavailable it is not known whether the bytes were taken.
        """
        _refuse_url(ref)
        sent = {**_IDENTITY, "content-type": "application/octet-stream"}
        sent.update((name.lower(), value) for name, value in (headers or {}).items())
        query = (("append", ""), ("position", str(position)))
        async with self._exchange("append", Request("POST", ref.bucket, ref.key, query, sent), ref, data) as answer:
            _expect_ok(answer, ref)
            length = next_position(answer.header)
            if length is None:
                raise ProtocolError("the answer to an append has no x-oss-next-append-position")
            return AppendResult(length, crc64_header(answer.header))

    async def seal(self, ref: ObjectRef, position: int) -> None:
        """No byte shall come behind `position`, the object's length; again is a success (SealAppendObject).

        Raises PositionMismatch, ObjectNotFound, and ServiceError where the service offers no sealing.
        """
        _refuse_url(ref)
        query = (("seal", ""), ("position", str(position)))
        async with self._exchange("seal", Request("POST", ref.bucket, ref.key, query, _IDENTITY), ref, b"") as answer:
            _expect_ok(answer, ref)

    async def delete(self, ref: ObjectRef) -> None:
        """Let the object be no more; one that is not there is a success, too (OSS documentation, DeleteObject)."""
        _refuse_url(ref)
        async with self._exchange("delete", Request("DELETE", ref.bucket, ref.key, (), _IDENTITY), ref) as answer:
            _expect_ok(answer, ref, 204)

    async def list_objects(
        self,
        bucket: str,
        prefix: str = "",
        *,
        delimiter: str = "",
        start_after: str = "",
        continuation_token: str | None = None,
        max_keys: int = 1000,
    ) -> ListPage:
        """One page of at most `max_keys` (1 to 1000) objects and common prefixes, in byte order of the keys.

        Give `continuation_token` the page's `next_token` for the page that follows. Raises BucketNotFound.
        """
        parameters = {
            "list-type": "2",
            "prefix": prefix,
            "delimiter": delimiter,
            "start-after": start_after,
            "continuation-token": continuation_token or "",
            "max-keys": str(max_keys),
            "encoding-type": "url",
        }
        query = tuple((name, value) for name, value in parameters.items() if value)
        async with self._exchange("list", Request("GET", bucket, None, query, _IDENTITY), None) as answer:
            _expect_ok(answer, None)
            return parse_list(await answer.read(MAX_LIST_BODY + 1))

    # --- one request, one answer

    def _exchange(self, operation: str, request: Request, ref: ObjectRef | None, body: Data | None = None) -> _Exchange:
        """For ``async with``: send `request`, and hand out an answer that is not an error."""
        return _Exchange(self, operation, request, ref, body)

    async def send(self, exchange: _Exchange) -> _Answer:
        """Send what `exchange` holds, mend what is this client's to mend, and return an answer that is not an error."""
        mended: set[type[TailerError]] = set()
        request, ref = exchange.request, exchange.ref
        while True:
            credentials = None if self._by_url(ref) else await self._settings.credentials.get()
            url, headers = self._addressed(request, ref, credentials)
            answer = await exchange.begin(self._transport.open(request.method, url, headers, exchange.body))
            if answer.status < 300:
                return answer
            try:
                error = await _error(answer, request, signed=credentials is not None)
            finally:
                await exchange.end()
            try:
                if type(error) in mended or not await self._mend(error, credentials):
                    raise error
                mended.add(type(error))
            finally:
                del error  # see `without_frames`: what is raised holds this frame

    def tell(self, operation: str, answer: _Answer | None, seconds: float) -> None:
        """A request is over."""
        if self._on_request is not None:
            status, received = (answer.status, answer.received) if answer else (None, 0)
            self._on_request(operation, status, seconds, received)

    def _addressed(
        self, request: Request, ref: ObjectRef | None, credentials: Credentials | None
    ) -> tuple[str, Mapping[str, str]]:
        """URL and headers of `request`, signed with `credentials`. Raises AddressError, ConfigError."""
        if ref is not None:
            check_key(ref.key)
            if self._by_url(ref):
                return UnshownUrl(self._urls.get(ref) or object_url(ref)), request.headers
        assert request.bucket is not None  # every operation here is about a bucket
        check_bucket(request.bucket)
        endpoint = self._settings.endpoint_of(request.bucket)
        url = endpoint.url(request.bucket, request.key, encode_query(request.query))
        if credentials is None:
            return url, request.headers
        return url, UnshownDict({**request.headers, **self._signature(request, credentials)})

    def _signature(self, request: Request, credentials: Credentials) -> dict[str, str]:
        now = self._clock() + self._clock_offset
        if self._settings.sign_version == "v1":
            return sign_v1(request, credentials, now=now)
        region = self._settings.region_of(request.bucket or "")
        if region is None:
            raise ConfigError("signature V4 needs a region: give --region or set OSS_REGION")
        return sign_v4(request, credentials, region=region, now=now)

    async def _mend(self, error: TailerError, used: Credentials | None) -> bool:
        """Whether the same request may go through now, signed anew."""
        if used is None:
            return False
        if isinstance(error, ClockSkewed) and error.server_time is not None:
            self._clock_offset = error.server_time - self._clock()
            return True
        if isinstance(error, CredentialsExpired):
            provider = self._settings.credentials
            if await provider.get() == used:  # else a request beside this one has fetched them already
                await provider.refresh()
            return await provider.get() != used
        return False

    def _by_url(self, ref: ObjectRef | None) -> bool:
        return ref is not None and ref.scheme != "oss"

    def _presigned(self, ref: ObjectRef) -> bool:
        return ref in self._presigned_refs


class _Exchange:
    """One request, and its answer until nobody reads it any more. (An `asynccontextmanager` takes longer.)"""

    def __init__(
        self, client: Client, operation: str, request: Request, ref: ObjectRef | None, body: Data | None
    ) -> None:
        self._client = client
        self._operation = operation
        self.request = request
        self.ref = ref
        self.body = body

    async def __aenter__(self) -> _Answer:
        return await self._client.send(self)

    async def __aexit__(self, *exception: Any) -> None:
        await self.end(*exception)

    async def begin(self, opening: AbstractAsyncContextManager[Response]) -> _Answer:
        """Send it."""
        self._opening, self._answer, self._started = opening, None, time.perf_counter()
        try:
            self._answer = answer = _Answer(await opening.__aenter__())
        finally:
            if self._answer is None:
                self._tell()
        return answer

    async def end(self, *exception: Any) -> None:
        """Let go of the connection."""
        try:
            await self._opening.__aexit__(*(exception or (None, None, None)))
        finally:
            self._tell()

    def _tell(self) -> None:
        self._client.tell(self._operation, self._answer, time.perf_counter() - self._started)


class _Answer:
    """An answer under way, counting what is read of it."""

    def __init__(self, response: Response) -> None:
        self._response = response
        self.status = response.status
        self.header = response.header
        self.received = 0

    async def read(self, limit: int) -> Data:
        data = await self._response.read(limit)
        self.received += len(data)
        return data


async def _read_window(answer: _Answer, carried: ContentRange, asked: ByteRange) -> Data:
    """The bytes that are wanted of those that the answer carries; all of them or an error."""
    wanted = min(carried.stop, asked.stop) - asked.start
    # At the end of the body one byte more is asked for: it would show a body that is too long, and having
    # seen the end lets the connection live on.
    at_end = carried.stop <= asked.stop
    data = await answer.read(wanted + at_end)
    if len(data) < wanted:
        raise ConnectionLost(f"the body ended after {len(data)} of {wanted} bytes")
    if len(data) > wanted:
        raise RangeIgnored(f"the body is longer than the {wanted} bytes that its Content-Range states")
    return data


def _refuse_url(ref: ObjectRef) -> None:
    """A URL is signed for one request, if at all; a writer makes many."""
    if ref.scheme != "oss":
        raise UsageError(f"{ref} is known by its URL and can only be read")


def _refuse_whole_object(answer: _Answer, start: int) -> None:
    """Without x-oss-range-behavior a first byte at or behind the end brings 200 and the whole object."""
    length = content_length(answer.header)
    if answer.status == 200 and length is not None and length <= start:
        raise RangeNotSatisfiable(f"the object ends at {length}, before byte {start}", status=200)


def _expect_ok(answer: _Answer, ref: ObjectRef | None, status: int = 200) -> None:
    """Raises ProtocolError for what the service does not answer: a portal's welcome page is a 200 too."""
    if answer.status != status:
        raise ProtocolError(f"status {answer.status} where OSS answers {status}")
    if (ref is None or ref.scheme == "oss") and not answered_by_oss(answer.header):
        raise ProtocolError(f"a {status} that does not come from OSS: it has no x-oss- header")


async def _error(answer: _Answer, request: Request, *, signed: bool) -> TailerError:
    body: Data = b""
    if request.method != "HEAD":
        with suppress(TransportError):  # the status says enough
            body = await answer.read(MAX_ERROR_BODY)
    error = error_from_response(answer.status, answer.header, body, of_bucket=request.key is None)
    if isinstance(error, AccessDenied) and error.hint is None and not signed:
        error.hint = "it is not public: an access key is needed"
    return error
