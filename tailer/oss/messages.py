"""What answers mean: metadata, errors, listings and ranges. Pure; every input is taken for hostile.

Whatever the bytes, a function here returns a right value or raises a `TailerError`. Sources are pages of
the OSS documentation: "HeadObject", "GetObject", "Error responses", "ListObjectsV2 (GetBucketV2)".
"""

from __future__ import annotations

import binascii
import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import unquote

from tailer.core.position import ObjectMeta
from tailer.core.ranges import ByteRange, ContentRange
from tailer.errors import (
    AccessDenied,
    BucketNotFound,
    ClockSkewed,
    CredentialsExpired,
    CredentialsRefused,
    NotAppendable,
    ObjectNotFound,
    ObjectSealed,
    PositionMismatch,
    PreconditionFailed,
    ProtocolError,
    RangeIgnored,
    RangeNotSatisfiable,
    ServiceError,
    ServiceUnavailable,
    TailerError,
    Throttled,
    WrongEndpoint,
)

Header = Callable[[str], str | None]
"""Looks a header up by its lower-case name; None when the answer has no such header."""

MAX_ERROR_BODY = 64 << 10
"""Bytes of an error's body that are looked at."""

MAX_LIST_BODY = 16 << 20
"""Bytes of a listing: 1000 keys of 1023 bytes, every one percent-encoded, take less than 4 MiB."""

# A page has at most a thousand rows and a thousand prefixes (OSS documentation, "ListObjectsV2"), of a dozen elements.
_MAX_ELEMENTS = 100_000
_MAX_DEPTH = 16
_MAX_PIECE = 64 << 10  # bytes of one tag, or of one text: the longest there is, a key, has 3 KiB when it is encoded

_MAX_INTEGER = 1 << 63
_MAX_CRC64 = (1 << 64) - 1
_MAX_WAIT = 3600.0
_DIGITS = re.compile(r"[0-9]{1,20}")
_CODE = re.compile(r"[A-Za-z0-9._-]{1,80}")
_MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec"
_IMF_DATE = re.compile(r"\w{3}, (\d\d) (\w{3}) (\d{4}) (\d\d):(\d\d):(\d\d) GMT", re.ASCII)
_ISO_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.\d{1,9})?Z", re.ASCII)

_TEXT = r"[ -%'-;=?-~]"  # of ASCII what stands for itself
_GAP = r"[ \t\r\n]*"
_PLAIN_ROW = re.compile(
    rf"{_GAP}<Contents>"
    rf"{_GAP}<Key>({_TEXT}+)</Key>"
    rf"{_GAP}<LastModified>(\d{{4}}-\d\d-\d\dT(?:[01]\d|2[0-3]):\d\d:\d\d\.000Z)</LastModified>"
    rf"{_GAP}<ETag>((?:&quot;)?{_TEXT}*(?:&quot;)?)</ETag>"
    rf"(?:{_GAP}<Type>({_TEXT}*)</Type>)?"
    rf"{_GAP}<Size>(\d{{1,18}})</Size>"
    rf"(?:{_GAP}<StorageClass>({_TEXT}*)</StorageClass>)?"
    rf"(?:{_GAP}<Owner>{_GAP}<ID>{_TEXT}*</ID>{_GAP}<DisplayName>{_TEXT}*</DisplayName>{_GAP}</Owner>)?"
    rf"{_GAP}",
    re.ASCII,
)
_MAX_PLAIN_ROWS = 2000

# --- metadata


def meta_from_headers(header: Header, *, size: int | None = None) -> ObjectMeta:
    """What the headers of a HEAD, or of a GET of the whole object, say. `size` overrides Content-Length.

    Raises ProtocolError when the size is missing or a number cannot be one.
    """
    if size is None:
        size = content_length(header)
    if size is None:
        raise ProtocolError("the answer has no Content-Length, so the object's size is not known")
    modified = parse_date(header("last-modified"))
    sealed = header("x-oss-sealed-time")
    return ObjectMeta(
        size=size,
        crc64=crc64_header(header),
        type=_object_type(header("x-oss-object-type")),
        etag=_unquoted(header("etag")),
        last_modified=modified,
        version_id=header("x-oss-version-id"),
        # The presence of the header says that no byte will come; its value only says since when.
        sealed_time=None if sealed is None else parse_date(sealed) or modified or 0.0,
        storage_class=header("x-oss-storage-class"),
    )


def content_length(header: Header) -> int | None:
    """Content-Length in bytes, None when it is missing. Raises ProtocolError when it is not a number."""
    return _integer(header, "content-length", _MAX_INTEGER)


def crc64_header(header: Header) -> int | None:
    """x-oss-hash-crc64ecma, None when it is missing. Raises ProtocolError when it is not a 64-bit number."""
    return _integer(header, "x-oss-hash-crc64ecma", _MAX_CRC64)


def next_position(header: Header) -> int | None:
    """x-oss-next-append-position in bytes. Raises ProtocolError when it is not a number."""
    return _integer(header, "x-oss-next-append-position", _MAX_INTEGER)


def answered_by_oss(header: Header) -> bool:
    """Whether an answer carries any mark of the service; a proxy's own page has none."""
    if header("x-oss-request-id") is not None:
        return True
    return header("x-oss-hash-crc64ecma") is not None or header("x-oss-object-type") is not None


@lru_cache(maxsize=256)  # a poll that finds nothing sees the same date again
def parse_date(text: str | None) -> float | None:
    """An HTTP date (RFC 9110 section 5.6.7) or an ISO 8601 one in UTC, as seconds since 1970; else None."""
    if text is None:
        return None
    if match := _IMF_DATE.fullmatch(text.strip()):
        day_text, name, year_text, *clock = match.groups()
        parts = [year_text, _MONTHS.index(name) // 4 + 1 if name in _MONTHS else 0, day_text, *clock]
    elif match := _ISO_DATE.fullmatch(text.strip()):
        parts = list(match.groups())
    else:
        return None
    try:
        year, month, day, hour, minute, second = map(int, parts)
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()
    except ValueError:  # a day or an hour that there is not
        return None


def _integer(header: Header, name: str, limit: int) -> int | None:
    text = header(name)
    if text is None:
        return None
    # HTTP's own white space alone (RFC 9110 section 5.6.3): str.strip knows more of it than int does.
    text = text.strip(" \t")
    if not _DIGITS.fullmatch(text) or int(text) > limit:
        raise ProtocolError(f"the header {name} says {_printable(text, 40)!r}, which is not a number it can hold")
    return int(text)


def _object_type(text: str | None) -> str | None:
    return text.strip().capitalize() if text else None


def _unquoted(etag: str | None) -> str | None:
    return etag.strip().strip('"') if etag else None


# --- ranges


def check_partial(status: int, header: Header, asked: ByteRange, *, open_ended: bool = False) -> ContentRange:
    """What a 206 carries, once it is certain that it begins at the first byte asked for.

    `open_ended`: the request was ``bytes=start-``, so the answer may go on behind ``asked.stop``. Raises
    RangeIgnored for anything else than a 206 of the range asked for: its body must not be used.
    """
    if status != 206:
        raise RangeIgnored(
            f"asked for bytes {asked.header.removeprefix('bytes=')}, got status {status} and another range"
        )
    stated = header("content-range")
    try:
        got = ContentRange.parse(stated or "")
    except ValueError as error:
        raise RangeIgnored(f"asked for {asked.header}, got a 206 with Content-Range {_quoted(stated)}") from error
    if got.start != asked.start or (got.stop > asked.stop and not open_ended):
        raise RangeIgnored(f"asked for {asked.header}, got a 206 with Content-Range {_quoted(stated)}")
    length = content_length(header)
    if length is not None and length != got.stop - got.start:
        raise RangeIgnored(f"Content-Range {_quoted(stated)} does not agree with a Content-Length of {length}")
    return got


def _quoted(text: str | None) -> str:
    return "missing" if text is None else repr(_printable(text, 80))


# --- errors

_NETWORK_HINT = "new accounts need the internal endpoint or an own domain (CNAME) here"
_ARREARS_HINT = "the account is in arrears or disabled: see the console"
_TOKEN_CODES = (
    "SecurityTokenExpired",
    "InvalidSecurityToken",
    "AccessKeyIdAndSecurityTokenNotMatch",
    "SecurityTokenNotSupported",
)
_CLASSES: dict[str, type[ServiceError]] = {
    "NoSuchKey": ObjectNotFound,
    "SymlinkTargetNotExist": ObjectNotFound,
    "NoSuchBucket": BucketNotFound,
    "InvalidAccessKeyId": CredentialsRefused,
    "SignatureDoesNotMatch": CredentialsRefused,
    **dict.fromkeys(_TOKEN_CODES, CredentialsExpired),
    "RequestTimeTooSkewed": ClockSkewed,
    "PermanentRedirect": WrongEndpoint,
    "TemporaryRedirect": WrongEndpoint,
    "SecondLevelDomainForbidden": WrongEndpoint,
    "NonStandardHostForbidden": WrongEndpoint,
    "PublicEndpointForbidden": WrongEndpoint,
    "TransferAccelerationDisabled": WrongEndpoint,
    "InvalidRange": RangeNotSatisfiable,
    "PreconditionFailed": PreconditionFailed,
    "PositionNotEqualToLength": PositionMismatch,
    "ObjectNotAppendable": NotAppendable,
    "AppendSealedObjectNotAllowed": ObjectSealed,
    "QpsLimitExceeded": Throttled,
    "TotalQpsLimitExceeded": Throttled,
    "MetaOperationQpsLimitExceeded": Throttled,
    "DownloadTrafficRateLimitExceeded": Throttled,
    "UploadTrafficRateLimitExceeded": Throttled,
    "ActiveRequestLimitExceeded": Throttled,
    "CpuLimitExceeded": Throttled,
    "RequestTimeout": ServiceUnavailable,
}
_STATUSES: dict[int, type[ServiceError]] = {
    **dict.fromkeys((301, 302, 303, 307, 308), WrongEndpoint),
    401: CredentialsRefused,
    403: AccessDenied,
    404: ObjectNotFound,
    408: ServiceUnavailable,
    412: PreconditionFailed,
    416: RangeNotSatisfiable,
    429: Throttled,
    **dict.fromkeys((500, 502, 503, 504), ServiceUnavailable),
}
_HINTS = {
    "PublicEndpointForbidden": _NETWORK_HINT,
    "SecondLevelDomainForbidden": "the public endpoint takes no path-style addresses: leave addressing at virtual",
    "NonStandardHostForbidden": "check the endpoint",
    "TransferAccelerationDisabled": "transfer acceleration is off for this bucket: use its regional endpoint",
    "InvalidObjectState": "the object is archived: restore it first",
    **dict.fromkeys(("UserDisable", "InDebt", "InDebtOverdue", "BucketDisable"), _ARREARS_HINT),
    "AbnormalBucketOwnerStatus": "the account of the bucket's owner is in arrears or disabled",
}


def error_from_response(
    status: int, header: Header, body: bytes | bytearray | memoryview = b"", *, of_bucket: bool = False
) -> TailerError:
    """The error that an answer stands for. `body` may be cut after `MAX_ERROR_BODY` bytes.

    `of_bucket`: the request was about a bucket, so a bare 404 means the bucket. An answer that no OSS gave
    (HTML of a proxy, say) becomes a ProtocolError, unless its status says that trying again may help.
    """
    fields = _error_fields(header, bytes(body[:MAX_ERROR_BODY]))
    code = fields.get("Code")
    code = code if code and _CODE.fullmatch(code) else None
    if code is None and _foreign(status, header, bytes(body[:512])):
        return _foreign_error(status)
    kind = _error_class(status, code, fields, of_bucket)
    error = kind(
        _printable(fields.get("Message", ""), 300),
        status=status,
        code=code,
        ec=_token(header("x-oss-ec") or fields.get("EC")),
        request_id=_token(header("x-oss-request-id") or fields.get("RequestId")),
        retry_after=_retry_after(header) if kind.retriable else None,
        hint=_hint(code, fields),
    )
    _add_details(error, header, fields)
    return error


def _error_class(status: int, code: str | None, fields: dict[str, str], of_bucket: bool) -> type[ServiceError]:
    if code == "AccessDenied" and fields.get("Endpoint"):
        return WrongEndpoint
    if code == "InvalidArgument" and "signing region" in fields.get("Message", ""):
        return WrongEndpoint
    if code is not None and code in _CLASSES:
        return _CLASSES[code]
    if status == 404 and of_bucket:
        return BucketNotFound
    return _STATUSES.get(status, ServiceError)


def _add_details(error: ServiceError, header: Header, fields: dict[str, str]) -> None:
    if isinstance(error, ClockSkewed):
        error.server_time = parse_date(fields.get("ServerTime")) or parse_date(header("date"))
    elif isinstance(error, PositionMismatch):
        text = (header("x-oss-next-append-position") or "").strip()
        error.next_position = int(text) if _DIGITS.fullmatch(text) else None
    elif isinstance(error, WrongEndpoint):
        error.endpoint = _named_endpoint(header, fields)
        if error.endpoint and error.hint is None:
            error.hint = f"the service names the endpoint {error.endpoint}"


def _named_endpoint(header: Header, fields: dict[str, str]) -> str | None:
    """The host that the service says is right: an element of its own, or the target of a redirect."""
    named = fields.get("Endpoint")
    if not named and (location := header("location")):
        named = location.partition("://")[2].partition("/")[0]
    return named if named and re.fullmatch(r"[A-Za-z0-9._:\[\]-]{1,255}", named) else None


def _hint(code: str | None, fields: dict[str, str]) -> str | None:
    message = fields.get("Message", "")
    if code == "AccessDenied" and "expired" in message.lower():
        return "the presigned URL is no longer good: make a new one"
    if code == "InvalidArgument" and "signing region" in message:
        return "the bucket is in another region: give its region"
    return _HINTS.get(code or "")


def _foreign(status: int, header: Header, beginning: bytes) -> bool:
    """Whether something else than OSS answered: a page for people without a request id of the service."""
    if answered_by_oss(header) or header("x-oss-err") is not None:
        return False
    page = beginning.lstrip().lower().startswith((b"<!doctype", b"<html"))
    return page or "html" in (header("content-type") or "").lower() or status == 407


def _foreign_error(status: int) -> TailerError:
    kind = _STATUSES.get(status)
    if kind is not None and kind.retriable:
        return kind("not an answer of OSS", status=status, hint=ProtocolError.hint)
    if status == 407:
        return ProtocolError("the proxy asks for a name and a password", hint="put them into HTTPS_PROXY")
    return ProtocolError(f"status {status} with a page that OSS does not send")


def _error_fields(header: Header, body: bytes) -> dict[str, str]:
    """The elements of the Error document, from the body or, after a HEAD, from x-oss-err."""
    encoded = header("x-oss-err")
    if not body.strip() and encoded is not None:
        try:
            body = binascii.a2b_base64(encoded[: 2 * MAX_ERROR_BODY].encode())
        except ValueError:  # what it says is lost; the status still speaks
            return {}
    document = _ErrorDocument()
    with contextlib.suppress(ProtocolError):  # whole elements before a fault are still good
        _parse_xml(body, document.start, document.end)
    return document.fields


def _retry_after(header: Header) -> float | None:
    """Seconds, from x-oss-qos-delay-time (milliseconds) or Retry-After (seconds); at most an hour."""
    for name, scale in (("x-oss-qos-delay-time", 1000), ("retry-after", 1)):
        text = (header(name) or "").strip()
        if _DIGITS.fullmatch(text):
            return min(int(text) / scale, _MAX_WAIT)
    return None


def _token(text: str | None) -> str | None:
    return _printable(text, 80) if text else None


def _printable(text: str, limit: int) -> str:
    """`text` without control characters, which could drive a terminal, and not endless."""
    return "".join(char if char.isprintable() else " " for char in text[:limit]).strip()


# --- listings


@dataclass(frozen=True, slots=True)
class ListedObject:
    """One row of a listing. Its `meta` has no CRC-64 and does not know whether the object is sealed."""

    key: str
    meta: ObjectMeta


@dataclass(frozen=True, slots=True)
class ListPage:
    """One page of a listing, in byte order of the keys. `next_token` is None on the last one."""

    objects: tuple[ListedObject, ...]
    prefixes: tuple[str, ...]
    next_token: str | None


def parse_list(body: bytes | bytearray | memoryview) -> ListPage:
    """Read the answer to ListObjectsV2. Raises ProtocolError for anything but a complete one.

    Keys come percent-encoded where the document says ``EncodingType`` ``url``, as XML 1.0 cannot hold
    every character that a key can.
    """
    if len(body) > MAX_LIST_BODY:
        raise ProtocolError(f"a listing of more than {MAX_LIST_BODY} bytes")
    body = bytes(body)
    _check_pieces(body)
    rows, rest = _cut_rows(body)
    document = _read_list(rest)
    if rows and document.contents != [{}]:  # they stood somewhere else than rows do
        rows, document = [], _read_list(body)
    if not document.complete:
        raise ProtocolError("a listing without a ListBucketResult")
    decode = _url_decoded if document.fields.get("EncodingType") == "url" else str
    token = document.fields.get("NextContinuationToken")
    if document.fields.get("IsTruncated") == "true" and not token:
        raise ProtocolError("a listing that says that it goes on, but not where")
    return ListPage(
        objects=tuple(_plain(row, decode) for row in rows) if rows else _listed_all(document.contents, decode),
        prefixes=tuple(decode(prefix) for prefix in document.prefixes),
        next_token=decode(token) if token and document.fields.get("IsTruncated") == "true" else None,
    )


def _read_list(body: bytes) -> _ListDocument:
    document = _ListDocument()
    _parse_xml(body, document.start, document.end)
    return document


def _cut_rows(body: bytes) -> tuple[list[re.Match[str]], bytes]:
    """The rows, and `body` with one empty row in their place; nothing and all of `body` where they are not plain.

    Events of a parser for each element of a thousand rows take three times as long. What is plain is certain: rows of
    known elements without attributes, references or anything that is not ASCII, one behind the other. The parser sees
    the rest: that it is XML, and that rows may stand where these stood.
    """
    start, stop = body.find(b"<Contents>"), body.rfind(b"</Contents>") + len(b"</Contents>")
    around = body[:start] + body[stop:]
    if not 0 <= start < stop or b"<Contents" in around or b"<!" in around or not body[start:stop].isascii():
        return [], body
    pieces = body[start:stop].decode("ascii").split("</Contents>")
    rows = [row for piece in pieces[:-1] if (row := _PLAIN_ROW.fullmatch(piece))]
    if len(rows) != len(pieces) - 1 or len(rows) > _MAX_PLAIN_ROWS:
        return [], body
    return rows, body[:start] + b"<Contents/>" + body[stop:]


def _plain(row: re.Match[str], decode: Callable[[str], str]) -> ListedObject:
    key, date, etag, kind, size, storage_class = row.groups()
    if "&" in etag:
        etag = etag.replace("&quot;", '"')
    meta = ObjectMeta(
        int(size), None, _object_type(kind), _unquoted(etag), _plain_date(date), None, None, storage_class
    )
    return ListedObject(decode(key), meta)


def _plain_date(text: str) -> float | None:
    """As `parse_date`, of what is known to look like a date."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:  # a day that there is not
        return None


def _listed_all(rows: list[dict[str, str]], decode: Callable[[str], str]) -> tuple[ListedObject, ...]:
    return tuple(_listed(row, decode) for row in rows)


def _listed(row: dict[str, str], decode: Callable[[str], str]) -> ListedObject:
    key, size = row.get("Key"), (row.get("Size") or "").strip()
    if not key or not _DIGITS.fullmatch(size) or int(size) > _MAX_INTEGER:
        raise ProtocolError("a row of a listing has no readable key and size")
    meta = ObjectMeta(
        size=int(size),
        type=_object_type(row.get("Type")),
        etag=_unquoted(row.get("ETag")),
        last_modified=parse_date(row.get("LastModified")),
        storage_class=row.get("StorageClass"),
    )
    return ListedObject(decode(key), meta)


def _url_decoded(text: str) -> str:
    text = text.replace("%2F", "/")  # in nearly every key, and mostly all there is
    if "%" not in text:
        return text
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError as error:
        raise ProtocolError(f"a key in a listing is not UTF-8: {_printable(text, 80)}") from error


# --- XML


@dataclass(slots=True)
class _ErrorDocument:
    """Collects the text of the children of ``Error``."""

    fields: dict[str, str] = field(default_factory=dict)

    def start(self, path: tuple[str, ...]) -> None:
        """Nothing is known at a start tag."""

    def end(self, path: tuple[str, ...], text: str) -> None:
        if len(path) == 2 and path[0] == "Error":
            self.fields.setdefault(path[1], text.strip())


@dataclass(slots=True)
class _ListDocument:
    """Collects the rows, the common prefixes and the other fields of ``ListBucketResult``."""

    fields: dict[str, str] = field(default_factory=dict)
    contents: list[dict[str, str]] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    complete: bool = False

    def start(self, path: tuple[str, ...]) -> None:
        if path == ("ListBucketResult", "Contents"):
            self.contents.append({})

    def end(self, path: tuple[str, ...], text: str) -> None:
        match path:
            case ("ListBucketResult",):
                self.complete = True
            case ("ListBucketResult", "Contents", name):
                self.contents[-1][name] = text
            case ("ListBucketResult", "CommonPrefixes", "Prefix"):
                self.prefixes.append(text)
            case ("ListBucketResult", name):
                self.fields[name] = text.strip()


def _parse_xml(
    body: bytes,
    start: Callable[[tuple[str, ...]], None],
    end: Callable[[tuple[str, ...], str], None],
) -> None:
    """Call `start` with each path from the root, `end` with the path and the element's own text.

    Raises ProtocolError for what is not XML, for what would cost more time or memory than any answer of OSS
    does, and for a document type, which OSS never sends: it is how entities are made that grow without bound or
    read other files.
    """
    from xml.parsers import expat  # late: only errors and listings are XML

    _check_pieces(body)
    path: list[str] = []
    texts: list[list[str]] = []
    count = 0

    def opened(name: str, _: object) -> None:
        nonlocal count
        count += 1
        if count > _MAX_ELEMENTS or len(path) == _MAX_DEPTH:
            raise ProtocolError("XML with more elements, or nested deeper, than OSS sends it")
        path.append(name)
        texts.append([])
        start(tuple(path))

    def closed(_: str) -> None:
        end(tuple(path), "".join(texts.pop()))
        path.pop()

    def refused(*_: object) -> None:
        raise ProtocolError("XML with a document type, which OSS does not send")

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = opened
    parser.EndElementHandler = closed
    parser.CharacterDataHandler = lambda data: texts[-1].append(data)
    parser.StartDoctypeDeclHandler = refused
    try:
        parser.Parse(body, True)
    except (expat.ExpatError, ValueError, LookupError) as error:  # the last two: an encoding it cannot take
        raise ProtocolError(f"an answer that should be XML is not: {error}") from error


def _check_pieces(body: bytes) -> None:
    """Raises ProtocolError where so many bytes have no ``>``: a tag with a million attributes costs gigabytes."""
    start = 0
    while len(body) - start > _MAX_PIECE:
        start = body.rfind(b">", start, start + _MAX_PIECE) + 1
        if start == 0:
            raise ProtocolError("XML with a longer tag, or a longer text, than OSS sends it")
