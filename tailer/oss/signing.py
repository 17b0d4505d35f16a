"""Signatures of OSS, version 4 and version 1, as headers and as presigned queries. Pure: time is passed in.

Sources: OSS documentation, "Include a V4 signature in the Authorization header", "Include a V4 signature in
a URL", and the pages of the same names for V1. Both versions sign ``/bucket/key`` however the bucket is
addressed, and neither signs the payload, ``Host`` or ``Range``.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import time
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from tailer.oss.credentials import Credentials

Query = tuple[tuple[str, str], ...]

_ALGORITHM = "OSS4-HMAC-SHA256"
_PAYLOAD = "UNSIGNED-PAYLOAD"
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

# fmt: off
# The query parameters that V1 signs; all others are left out of its string (OSS documentation, "Include a
# V1 signature in the Authorization header").
_SUB_RESOURCES = frozenset(
    (
        "acl", "append", "bucketInfo", "callback", "callback-var", "cloudboxes",
        "continuation-token", "delete", "location", "objectMeta", "partNumber", "position",
        "regionList", "resourceGroup", "response-cache-control", "response-content-disposition",
        "response-content-encoding", "response-content-language", "response-content-type",
        "response-expires", "restore", "seal", "security-token", "sequential", "stat", "symlink",
        "tagging", "uploadId", "uploads", "versionId", "versioning", "versions", "x-oss-process",
        "x-oss-request-payer", "x-oss-traffic-limit",
    )
)
# fmt: on


@dataclass(frozen=True, slots=True)
class Request:
    """A request as a signature sees it: names not yet encoded, header names in lower case.

    `bucket` and `key` are None where the request is about the service or the bucket. A query parameter
    without a value has the value ``""``.
    """

    method: str
    bucket: str | None = None
    key: str | None = None
    query: Query = ()
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def resource(self) -> str:
        """``/``, ``/bucket/`` or ``/bucket/key``, not encoded."""
        return f"/{self.bucket}/{self.key or ''}" if self.bucket is not None else "/"


@lru_cache(maxsize=1024)  # the same objects are asked for again and again
def encode_path(path: str) -> str:
    """Percent-encode all but unreserved characters and slashes."""
    return quote(path, safe="/")


@lru_cache(maxsize=1024)  # names and most values, too
def _quoted(text: str) -> str:
    return quote(text, safe="")


def encode_query(query: Iterable[tuple[str, str]]) -> str:
    """``k=v&k2``: percent-encoded, in the order given, no ``=`` where the value is empty."""
    return "&".join(_encoded(query))


def http_date(now: float) -> str:
    """`now`, seconds since 1970, as RFC 9110's IMF-fixdate, whatever the locale."""
    t = time.gmtime(now)
    date = f"{_DAYS[t.tm_wday]}, {t.tm_mday:02} {_MONTHS[t.tm_mon - 1]} {t.tm_year}"
    return f"{date} {t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02} GMT"


def sign_v4(
    request: Request,
    credentials: Credentials,
    *,
    region: str,
    now: float,
    product: str = "oss",
    additional: Collection[str] = (),
) -> dict[str, str]:
    """The headers to add to `request` (they replace those of the same names). `now`: seconds since 1970.

    `region` is written ``cn-hangzhou``. `additional` names further headers to sign, such as ``host``.
    """
    timestamp = _timestamp(now)
    added = {"x-oss-date": timestamp, "x-oss-content-sha256": _PAYLOAD}
    if credentials.security_token:
        added["x-oss-security-token"] = credentials.security_token
    headers = {**request.headers, **added}
    names = _additional(headers, additional)
    scope = f"{timestamp[:8]}/{region}/{product}/aliyun_v4_request"
    canonical = _canonical_request(request, request.query, headers, names)
    signature = _signature_v4(credentials.access_key_secret, timestamp, scope, canonical)
    listed = f",AdditionalHeaders={';'.join(names)}" if names else ""
    credential = f"Credential={credentials.access_key_id}/{scope}"
    added["authorization"] = f"{_ALGORITHM} {credential}{listed},Signature={signature}"
    return added


def presign_v4(
    request: Request,
    credentials: Credentials,
    *,
    region: str,
    now: float,
    expires: int,
    product: str = "oss",
    additional: Collection[str] = (),
) -> Query:
    """The whole query of a URL that is good for `expires` seconds from `now` (at most 604800 for OSS).

    Whoever uses the URL must send the ``x-oss-`` headers, Content-Type and Content-MD5 of `request` as
    they are, and no others of these.
    """
    timestamp = _timestamp(now)
    scope = f"{timestamp[:8]}/{region}/{product}/aliyun_v4_request"
    names = _additional(request.headers, additional)
    query = [
        *request.query,
        ("x-oss-signature-version", _ALGORITHM),
        ("x-oss-date", timestamp),
        ("x-oss-expires", str(expires)),
        ("x-oss-credential", f"{credentials.access_key_id}/{scope}"),
    ]
    if credentials.security_token:
        query.append(("x-oss-security-token", credentials.security_token))
    if names:
        query.append(("x-oss-additional-headers", ";".join(names)))
    canonical = _canonical_request(request, query, request.headers, names)
    signature = _signature_v4(credentials.access_key_secret, timestamp, scope, canonical)
    return (*query, ("x-oss-signature", signature))


def sign_v1(request: Request, credentials: Credentials, *, now: float) -> dict[str, str]:
    """The headers to add to `request` (they replace those of the same names). `now`: seconds since 1970."""
    added = {"date": http_date(now)}
    if credentials.security_token:
        added["x-oss-security-token"] = credentials.security_token
    headers = {**request.headers, **added}
    date = headers.get("x-oss-date") or headers["date"]
    signature = _signature_v1(request, request.query, headers, date, credentials.access_key_secret)
    added["authorization"] = f"OSS {credentials.access_key_id}:{signature}"
    return added


def presign_v1(request: Request, credentials: Credentials, *, expires_at: int) -> Query:
    """The whole query of a URL that is good until `expires_at`, seconds since 1970."""
    query = [*request.query, ("OSSAccessKeyId", credentials.access_key_id), ("Expires", str(expires_at))]
    if credentials.security_token:
        query.append(("security-token", credentials.security_token))
    signature = _signature_v1(request, query, request.headers, str(expires_at), credentials.access_key_secret)
    return (*query, ("Signature", signature))


def _encoded(query: Iterable[tuple[str, str]]) -> list[str]:
    return [f"{_quoted(name)}={_quoted(value)}" if value else _quoted(name) for name, value in query]


def _timestamp(now: float) -> str:
    return _timestamp_of(int(now))


@lru_cache(maxsize=8)
def _timestamp_of(second: int) -> str:
    t = time.gmtime(second)
    return f"{t.tm_year:04}{t.tm_mon:02}{t.tm_mday:02}T{t.tm_hour:02}{t.tm_min:02}{t.tm_sec:02}Z"


def _additional(headers: Mapping[str, str], names: Collection[str]) -> list[str]:
    """Those of `names` that are sent and are not signed anyway, as the signature lists them."""
    lowered = {name.lower() for name in names}
    return sorted(name for name in lowered if headers.get(name) and not _signed_by_default(name))


def _signed_by_default(name: str) -> bool:
    return name.startswith("x-oss-") or name in ("content-type", "content-md5")


def _canonical_request(
    request: Request, query: Iterable[tuple[str, str]], headers: Mapping[str, str], additional: list[str]
) -> str:
    pairs = sorted((_quoted(name), _quoted(value)) for name, value in query)
    canonical_query = "&".join(f"{name}={value}" if value else name for name, value in pairs)
    signed = sorted(name for name in headers if _signed_by_default(name) or name in additional)
    canonical_headers = "".join(f"{name}:{headers[name].strip()}\n" for name in signed)
    path = encode_path(request.resource)
    return "\n".join((request.method, path, canonical_query, canonical_headers, ";".join(additional), _PAYLOAD))


def _signature_v4(secret: str, timestamp: str, scope: str, canonical_request: str) -> str:
    digest = hashlib.sha256(canonical_request.encode()).hexdigest()
    text = f"{_ALGORITHM}\n{timestamp}\n{scope}\n{digest}"
    return hmac.digest(_signing_key(secret, scope), text.encode(), "sha256").hex()


@lru_cache(maxsize=8)  # it changes once a day, and costs as much as all the rest
def _signing_key(secret: str, scope: str) -> bytes:
    key = f"aliyun_v4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _signature_v1(
    request: Request, query: Iterable[tuple[str, str]], headers: Mapping[str, str], date: str, secret: str
) -> str:
    signed = sorted(name for name in headers if name.startswith("x-oss-"))
    canonical_headers = "".join(f"{name}:{headers[name].strip()}\n" for name in signed)
    pairs = sorted((name, value) for name, value in query if name in _SUB_RESOURCES)
    resource = "&".join(f"{name}={value}" if value else name for name, value in pairs)
    text = "\n".join(
        (
            request.method,
            headers.get("content-md5", ""),
            headers.get("content-type", ""),
            date,
            f"{canonical_headers}{request.resource}{'?' if resource else ''}{resource}",
        )
    )
    digest = hmac.digest(secret.encode(), text.encode(), "sha1")
    return binascii.b2a_base64(digest, newline=False).decode()
