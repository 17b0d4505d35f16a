"""What a write says of an object beside its bytes: read from headers, checked, and answered as headers again."""

from __future__ import annotations

import base64
import re
from email.utils import formatdate
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from tailer.local.refusal import Refusal, invalid_argument, not_implemented, whole_number
from tailer.local.store import Attributes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tailer.local.store import ObjectInfo

OBJECT_ACLS = ("default", "private", "public-read", "public-read-write")
BUCKET_ACLS = OBJECT_ACLS[1:]
ARCHIVED = ("Archive", "ColdArchive", "DeepColdArchive")
OBJECT_CLASSES = ("Standard", "IA", *ARCHIVED)
CRC = "x-oss-hash-crc64ecma"
NEXT_POSITION = "x-oss-next-append-position"

OVERRIDES = {
    f"response-{name.lower()}": name
    for name in (
        "Content-Type",
        "Content-Language",
        "Expires",
        "Cache-Control",
        "Content-Disposition",
        "Content-Encoding",
    )
}
"""Query parameters of a GET that replace headers of its answer."""

_KEPT = {
    "content-type": "Content-Type",
    "cache-control": "Cache-Control",
    "content-disposition": "Content-Disposition",
    "content-encoding": "Content-Encoding",
    "content-language": "Content-Language",
    "expires": "Expires",
    "x-oss-server-side-encryption": "x-oss-server-side-encryption",
}
_REFUSED = ("x-oss-callback", "x-oss-callback-var", "x-oss-copy-source", "x-oss-symlink-target")
_META_NAME = re.compile(r"x-oss-meta-[a-z0-9-]+")
_META_LIMIT = 8 * 1024
_TRAFFIC_LIMIT = range(245_760, 838_860_801)


def from_headers(headers: Mapping[str, str], classes: Sequence[str]) -> Attributes:
    """The attributes that a write's headers ask for. Raises InvalidArgument and its kin.

    Header names are lower case; `classes` are the storage classes that the operation takes.
    """
    refuse_unserved(headers)
    kept = {_KEPT[name]: value for name, value in headers.items() if name in _KEPT}
    kept.setdefault("Content-Type", "application/octet-stream")
    kept |= _metadata(headers)
    _check_encryption(headers)
    return Attributes(
        headers=kept,
        storage_class=_one_of(headers, "x-oss-storage-class", classes) or "Standard",
        acl=_one_of(headers, "x-oss-object-acl", OBJECT_ACLS),
        tags=tags_from_header(headers.get("x-oss-tagging", "")),
    )


def refuse_unserved(headers: Mapping[str, str]) -> None:
    """Raises NotImplemented for what would make another operation of a write, or follow it."""
    for name in _REFUSED:
        if name in headers:
            raise not_implemented(name)


def object_headers(info: ObjectInfo) -> dict[str, str]:
    """What HEAD and GET say of an object; the length comes with the body."""
    headers = {
        **info.headers,
        **light_headers(info),
        "Accept-Ranges": "bytes",
        "x-oss-object-type": info.type,
        "x-oss-storage-class": info.storage_class,
    }
    if info.appendable:
        headers[NEXT_POSITION] = str(info.size)
    elif len(info.etag) == 32:
        headers["Content-MD5"] = base64.b64encode(bytes.fromhex(info.etag)).decode()
    if info.sealed is not None:
        headers["x-oss-sealed-time"] = http_date(info.sealed)
    if info.tags:
        headers["x-oss-tagging-count"] = str(len(info.tags))
    return headers


def light_headers(info: ObjectInfo) -> dict[str, str]:
    """What GetObjectMeta says of an object."""
    return {
        "ETag": f'"{info.etag}"',
        "Last-Modified": http_date(info.modified),
        CRC: str(info.crc64),
        **version_header(info),
    }


def version_header(info: ObjectInfo) -> dict[str, str]:
    """In a bucket that has or had versions: the id of this one."""
    return {} if info.version is None else {"x-oss-version-id": info.version}


def http_date(seconds: float) -> str:
    """RFC 9110 section 5.6.7."""
    return _http_date(int(seconds))


@lru_cache(maxsize=256)
def _http_date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)


def acl_from(headers: Mapping[str, str], name: str, allowed: Sequence[str]) -> str | None:
    """The ACL that a header asks for."""
    return _one_of(headers, name, allowed)


def tags_from_header(text: str) -> tuple[tuple[str, str], ...]:
    """``k=v&k2=v2``, percent-encoded (OSS documentation, PutObject)."""
    return check_tags(parse_qsl(text, keep_blank_values=True))


def check_tags(tags: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """At most 10, keys of 1 to 128 and values of up to 256 characters, no key twice."""
    keys = {key for key, _ in tags}
    sizes_fit = all(1 <= len(key) <= 128 and len(value) <= 256 for key, value in tags)
    if len(tags) > 10 or len(keys) < len(tags) or not sizes_fit:
        message = "At most 10 tags, keys of 1 to 128 characters and each only once, values of up to 256."
        raise Refusal(400, "InvalidTag", message)
    return tuple(tags)


def traffic_limit(text: str | None) -> float | None:
    """Bytes per second that x-oss-traffic-limit (bit/s) allows."""
    if text is None:
        return None
    bits = whole_number(text)
    if bits is None or bits not in _TRAFFIC_LIMIT:
        raise invalid_argument("x-oss-traffic-limit", text, "The traffic limit is out of range.")
    return bits / 8


def _metadata(headers: Mapping[str, str]) -> dict[str, str]:
    found = {name: value for name, value in headers.items() if name.startswith("x-oss-meta-")}
    for name, value in found.items():
        if _META_NAME.fullmatch(name) is None or not value.isprintable():
            raise invalid_argument(name, value, "A metadata name is a-z, 0-9 and '-', its value printable text.")
    if sum(len(name) + len(value.encode()) for name, value in found.items()) > _META_LIMIT:
        raise Refusal(400, "MetadataTooLarge", f"User metadata may be {_META_LIMIT} bytes in all.")
    return found


def _check_encryption(headers: Mapping[str, str]) -> None:
    value = headers.get("x-oss-server-side-encryption")
    if value is not None and value not in ("AES256", "KMS", "SM4"):
        message = "The encryption algorithm you specified is not valid."
        raise Refusal(400, "InvalidEncryptionAlgorithmError", message)
    if "x-oss-server-side-encryption-key-id" in headers:
        raise not_implemented("x-oss-server-side-encryption-key-id")


def _one_of(headers: Mapping[str, str], name: str, allowed: Sequence[str]) -> str | None:
    value = headers.get(name)
    if value is not None and value not in allowed:
        raise invalid_argument(name, value, f"{name} must be one of {', '.join(allowed)}.")
    return value
