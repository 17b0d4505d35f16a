"""Who sent a request: signature versions 1 and 4, in the Authorization header and in the URL, checked.

Written from the OSS documentation ("Include signatures in headers", "Include signatures in URLs", "Signature
version 4") alone, so that a mistake of a client's signer does not come back here as an agreement.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote

from tailer.local.refusal import Refusal, invalid_argument, whole_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tailer.local.keys import AccessKey

MAX_SKEW = 15 * 60
"""Seconds by which a request's date may be off."""

MAX_EXPIRES = 7 * 24 * 3600
"""Seconds for which a version 4 URL may be good."""

_V4 = "OSS4-HMAC-SHA256"

_SIGNED_BY_V1 = """
    accessPoint accessPointPolicy acl append asyncFetch bucketInfo callback callback-var cname comp
    continuation-token cors delete encryption httpsConfig img inventory inventoryId lifecycle live
    location logging metaQuery objectMeta partNumber policy policyStatus position publicAccessBlock qos
    qosInfo qosRequester referer regionList replication replicationLocation replicationProgress
    requestPayment requesterQosInfo resourceGroup response-cache-control response-content-disposition
    response-content-encoding response-content-language response-content-type response-expires restore
    rtc sealAppendObject security-token sequential startTime endTime stat status style styleName symlink
    tagging transferAcceleration uploadId uploads versionId versioning versions vod website worm
    wormExtend wormId x-oss-ac-forward-allow x-oss-ac-source-ip x-oss-ac-subnet-mask x-oss-ac-vpc-id
    x-oss-async-process x-oss-process x-oss-request-payer x-oss-traffic-limit
    x-oss-write-get-object-response
"""
SUB_RESOURCES = frozenset(_SIGNED_BY_V1.split())
"""Query parameters that version 1 signs (OSS documentation, "Include signatures in headers"; oss2)."""


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """What signatures cover. `query` is decoded, in the order sent; header names are lower case."""

    method: str
    bucket: str | None
    key: str | None
    query: Sequence[tuple[str, str]]
    headers: Mapping[str, str]

    def parameter(self, name: str) -> str | None:
        """The first value of a query parameter."""
        return next((value for key, value in self.query if key == name), None)

    @property
    def resource(self) -> str:
        """``/bucket/key`` however the bucket was addressed; ``/`` for the service."""
        return "/" if self.bucket is None else f"/{self.bucket}/{self.key or ''}"


class Authenticator:
    """Knows the keys, and the region and clock that requests must agree with. `keys` may be changed at any time."""

    def __init__(self, keys: Iterable[AccessKey], *, region: str, clock: Callable[[], float] = time.time) -> None:
        self.keys = {key.id: key for key in keys}
        self.region = region
        self.clock = clock

    def identify(self, request: SignedRequest) -> AccessKey | None:
        """The key that signed the request, None when nobody did. Raises a Refusal for a bad signature."""
        header = request.headers.get("authorization")
        if header is not None:
            return self._by_header(request, header.strip())
        if request.parameter("x-oss-signature-version") is not None:
            return self._by_url_v4(request)
        if request.parameter("Signature") is not None or request.parameter("OSSAccessKeyId") is not None:
            return self._by_url_v1(request)
        return None

    def _by_header(self, request: SignedRequest, header: str) -> AccessKey:
        scheme, _, rest = header.partition(" ")
        if scheme == "OSS" and rest.count(":") == 1:
            return self._by_header_v1(request, *rest.strip().split(":"))
        if scheme == _V4:
            return self._by_header_v4(request, _authorization_fields(rest))
        raise invalid_argument("Authorization", scheme, "Authorization header is invalid.")

    # --- version 1

    def _by_header_v1(self, request: SignedRequest, key_id: str, signature: str) -> AccessKey:
        key = self._known(key_id)
        date = request.headers.get("x-oss-date") or request.headers.get("date") or ""
        self._check_skew(_http_date(date), date)
        # Some official SDKs name the header without its prefix when they sign with version 1.
        token = request.headers.get("x-oss-security-token") or request.headers.get("security-token")
        self._check_token(key, token)
        self._check_v1(request, key, signature, date)
        return key

    def _by_url_v1(self, request: SignedRequest) -> AccessKey:
        fields = {name: request.parameter(name) for name in ("OSSAccessKeyId", "Expires", "Signature")}
        for name, value in fields.items():
            if not value:
                raise Refusal(403, "AccessDenied", f"Query-string authentication requires {name}.")
        expires = fields["Expires"] or ""
        key = self._known(fields["OSSAccessKeyId"] or "")
        until = whole_number(expires)
        if until is None:
            raise Refusal(403, "AccessDenied", f"Invalid date (should be seconds since epoch): {expires}")
        self._check_expiry(until)
        self._check_token(key, request.parameter("security-token"))
        self._check_v1(request, key, fields["Signature"] or "", expires)
        return key

    def _check_v1(self, request: SignedRequest, key: AccessKey, signature: str, date: str) -> None:
        text = string_to_sign_v1(request, date)
        texts = [text]
        if request.parameter("seal") is not None:
            # Whether version 1 signs this newer sub-resource is not documented; SDKs differ.
            texts.append(string_to_sign_v1(request, date, extra=frozenset({"seal"})))
        if not any(hmac.compare_digest(sign_v1(key.secret, text).encode(), signature.encode()) for text in texts):
            raise _mismatch(key, signature, text)

    # --- version 4

    def _by_header_v4(self, request: SignedRequest, fields: dict[str, str]) -> AccessKey:
        try:
            credential, signature = fields["credential"], fields["signature"]
        except KeyError as error:
            message = "Authorization header lacks Credential or Signature."
            raise invalid_argument("Authorization", _V4, message) from error
        if fields.get("additionalheaders") == "":
            message = "AdditionalHeaders in Authorization header is empty."
            raise invalid_argument("Authorization", _V4, message, "0002-00000209")
        key, scope = self._scope(credential, "Authorization header")
        date, begin = _date_v4(request.headers)
        self._check_skew(begin, date)
        payload = request.headers.get("x-oss-content-sha256", "")
        if payload != "UNSIGNED-PAYLOAD":
            raise invalid_argument("x-oss-content-sha256", payload, "The value must be UNSIGNED-PAYLOAD.")
        self._check_token(key, request.headers.get("x-oss-security-token"))
        self._check_v4(request, key, signature, date, scope, fields.get("additionalheaders", ""))
        return key

    def _by_url_v4(self, request: SignedRequest) -> AccessKey:
        version = request.parameter("x-oss-signature-version") or ""
        if version != _V4:
            raise invalid_argument("x-oss-signature-version", version, "The signature version is not supported.")
        key, scope = self._scope(request.parameter("x-oss-credential") or "", "query string")
        date = request.parameter("x-oss-date") or ""
        begin = _basic_date(date)
        expires = request.parameter("x-oss-expires") or ""
        seconds = whole_number(expires)
        if begin is None or seconds is None or not 0 < seconds <= MAX_EXPIRES:
            raise invalid_argument("x-oss-expires", expires, f"Expires must be 1 to {MAX_EXPIRES} seconds.")
        if begin > self.clock() + MAX_SKEW:
            raise self._skewed(date)
        self._check_expiry(begin + seconds)
        self._check_token(key, request.parameter("x-oss-security-token"))
        additional = request.parameter("x-oss-additional-headers") or ""
        signature = request.parameter("x-oss-signature") or ""
        self._check_v4(request, key, signature, date, scope, additional)
        return key

    def _scope(self, credential: str, where: str) -> tuple[AccessKey, str]:
        """The key of ``<id>/<date>/<region>/<product>/aliyun_v4_request``, and all behind its id."""
        key_id, *scope = credential.split("/")
        if len(scope) != 4 or scope[3] != "aliyun_v4_request":
            raise invalid_argument("Credential", credential, f"Invalid credential in {where}.")
        key = self._known(key_id)
        if scope[1] != self.region:
            message = f"Invalid signing region in {where[0].upper() + where[1:]}."
            raise invalid_argument("Region", scope[1], message, "0002-00000226")
        if scope[2] != "oss":
            raise invalid_argument("Product", scope[2], f"Invalid signing product in {where}.")
        return key, "/".join(scope)

    def _check_v4(
        self, request: SignedRequest, key: AccessKey, signature: str, date: str, scope: str, additional: str
    ) -> None:
        names = sorted(name.strip().lower() for name in additional.split(";") if name.strip())
        canonical = canonical_request_v4(request, names)
        text = string_to_sign_v4(canonical, date, scope)
        expected = sign_v4(key.secret, scope, text)
        # A scope of another day than the request's own date makes a key that outlives its day.
        if scope[:8] != _day(date) or not hmac.compare_digest(expected.encode(), signature.encode()):
            raise _mismatch(key, signature, text, canonical)

    # --- what both have in common

    def _known(self, key_id: str) -> AccessKey:
        key = self.keys.get(key_id)
        if key is None:
            raise _unknown(key_id, "0002-00000902")
        return key

    def _check_token(self, key: AccessKey, token: str | None) -> None:
        """A key with its own token, or neither with one (OSS documentation, the pages of these EC)."""
        if key.token is None and token:
            raise _unknown(key.id, "0002-00000002")
        if key.token is not None and not token:
            raise _unknown(key.id, "0002-00000902")
        if key.token is not None and not hmac.compare_digest(key.token.encode(), (token or "").encode()):
            if any(other.token == token for other in list(self.keys.values())):
                message = "The OSS access key id and security token you provided does not match."
                raise Refusal(403, "AccessKeyIdAndSecurityTokenNotMatch", message, ec="0002-00000004")
            message = "The security token you provided is invalid."
            raise Refusal(403, "InvalidSecurityToken", message, ec="0002-00000006")
        if key.expires is not None and self.clock() >= key.expires:
            message = "The security token you provided has expired."
            raise Refusal(403, "SecurityTokenExpired", message, ec="0002-00000007")

    def _check_skew(self, date: float | None, text: str) -> None:
        if date is None:
            raise Refusal(403, "AccessDenied", "OSS authentication requires a valid Date.")
        if abs(date - self.clock()) > MAX_SKEW:
            raise self._skewed(text)

    def _skewed(self, text: str) -> Refusal:
        now = datetime.fromtimestamp(self.clock(), UTC)
        fields = {
            "MaxAllowedSkewMilliseconds": str(MAX_SKEW * 1000),
            "RequestTime": text,
            "ServerTime": now.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        }
        message = "The difference between the request time and the current time is too large."
        return Refusal(403, "RequestTimeTooSkewed", message, ec="0002-00000504", fields=fields)

    def _check_expiry(self, expires: float) -> None:
        now = self.clock()
        if now > expires:
            fields = {
                "Expires": datetime.fromtimestamp(min(expires, now), UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z"),
                "ServerTime": datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z"),
            }
            message = "Request has expired."
            raise Refusal(403, "AccessDenied", message, ec="0002-00000069", fields=fields)


def string_to_sign_v1(request: SignedRequest, date: str, extra: frozenset[str] = frozenset()) -> str:
    """Verb, Content-MD5, Content-Type, date (or expiry), x-oss-* headers, resource; nothing is escaped."""
    headers = request.headers
    signed = SUB_RESOURCES | extra
    parameters = sorted((name, value) for name, value in request.query if name in signed)
    query = "&".join(f"{name}={value}" if value else name for name, value in parameters)
    lines = [request.method, headers.get("content-md5", ""), headers.get("content-type", ""), date]
    lines += [f"{name}:{headers[name].strip()}" for name in sorted(headers) if name.startswith("x-oss-")]
    lines.append(request.resource + (f"?{query}" if query else ""))
    return "\n".join(lines)


def sign_v1(secret: str, text: str) -> str:
    """Base64 of HMAC-SHA1."""
    return base64.b64encode(hmac.digest(secret.encode(), _bytes(text), "sha1")).decode()


def canonical_request_v4(request: SignedRequest, additional: Sequence[str]) -> str:
    """Six parts; `additional` are the names of further signed headers, lower case and sorted."""
    names = {
        name
        for name in request.headers
        if name in ("content-type", "content-md5") or name.startswith("x-oss-") or name in additional
    }
    query = sorted((_escape(name), _escape(value)) for name, value in request.query if name != "x-oss-signature")
    return "\n".join(
        [
            request.method,
            _escape(request.resource, safe="/"),
            "&".join(f"{name}={value}" if value else name for name, value in query),
            "".join(f"{name}:{request.headers[name].strip()}\n" for name in sorted(names)),
            ";".join(additional),
            "UNSIGNED-PAYLOAD",
        ]
    )


def string_to_sign_v4(canonical: str, date: str, scope: str) -> str:
    """`date` as in x-oss-date, or Date where that is missing.

    `scope` is ``<date>/<region>/<product>/aliyun_v4_request``.
    """
    return "\n".join([_V4, date, scope, hashlib.sha256(_bytes(canonical)).hexdigest()])


def sign_v4(secret: str, scope: str, text: str) -> str:
    """Hex of HMAC-SHA256 with the key that the scope derives from the secret."""
    return hmac.digest(_signing_key(secret, scope), _bytes(text), "sha256").hex()


@lru_cache(maxsize=64)
def _signing_key(secret: str, scope: str) -> bytes:
    key = b"aliyun_v4" + secret.encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


@lru_cache(maxsize=1024)  # the same names and resources are signed again and again
def _escape(text: str, safe: str = "") -> str:
    return quote(_bytes(text), safe=safe)


def _bytes(text: str) -> bytes:
    """What stood on the wire: bytes that were no UTF-8 came in as surrogates."""
    return text.encode("utf-8", "surrogateescape")


def _authorization_fields(text: str) -> dict[str, str]:
    """``Name=value`` pairs between commas, in any order, with any spaces; names in lower case."""
    pairs = (part.partition("=") for part in text.split(","))
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _http_date(text: str) -> float | None:
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return date.replace(tzinfo=date.tzinfo or UTC).timestamp()


@lru_cache(maxsize=64)
def _basic_date(text: str) -> float | None:
    """``yyyymmddThhmmssZ`` in seconds since 1970."""
    try:
        return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def _date_v4(headers: Mapping[str, str]) -> tuple[str, float | None]:
    """As it is signed, and in seconds since 1970: x-oss-date or else, with the first SDK for Go, the Date of HTTP."""
    date = headers.get("x-oss-date")
    if date is not None:
        return date, _basic_date(date)
    date = headers.get("date", "")
    return date, _http_date(date)


@lru_cache(maxsize=64)
def _day(date: str) -> str:
    """``yyyymmdd`` of either form of a date; nothing of what is no date."""
    seconds = _basic_date(date)
    if seconds is None:
        seconds = _http_date(date)
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%d")


def _unknown(key_id: str, ec: str) -> Refusal:
    message = "The OSS Access Key Id you provided does not exist in our records."
    return Refusal(403, "InvalidAccessKeyId", message, ec=ec, fields={"OSSAccessKeyId": key_id})


def _mismatch(key: AccessKey, signature: str, text: str, canonical: str | None = None) -> Refusal:
    fields = {
        "OSSAccessKeyId": key.id,
        "SignatureProvided": signature,
        "StringToSign": text,
        "StringToSignBytes": _bytes(text).hex(" ").upper(),
    }
    if canonical is not None:
        fields["CanonicalRequest"] = canonical
    message = (
        "The request signature we calculated does not match the signature you provided. "
        "Check your key and signing method."
    )
    return Refusal(403, "SignatureDoesNotMatch", message, ec="0002-00000040", fields=fields)
