"""What a user calls an object, and where requests for it go. Pure.

`parse_address` reads ``oss://bucket/key``, patterns, prefixes and URLs; `Endpoint` turns a bucket and a
key into a URL. Names are checked by the service's own rules (OSS documentation, "Bucket naming
conventions" and "Object naming conventions"), so that a slip costs no request.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote, urlsplit

from tailer.core.position import ObjectRef
from tailer.errors import AddressError, ConfigError
from tailer.oss.signing import encode_path

Addressing = Literal["virtual", "path", "cname"]

_MAX_KEY_BYTES = 1023
_BUCKET = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", re.ASCII)
_REGION = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*", re.ASCII)
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?", re.ASCII)
_GLOB = re.compile(r"[*?[]")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_PRESIGNED = re.compile(r"(^|&)(x-oss-signature|Signature)=")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_UNSAFE_IN_QUERY = re.compile(r"[^A-Za-z0-9\-._~!$&'()*+,;=:@/?%]")


@dataclass(frozen=True, slots=True)
class Address:
    """What a user wrote. `ref.key` is the pattern or the prefix when `pattern` or `prefix` is true.

    `url` is set for ``http(s)://`` alone; its query may hold a signature, so ``repr`` leaves it out.
    """

    ref: ObjectRef
    url: str | None = None
    pattern: bool = False
    prefix: bool = False

    def __repr__(self) -> str:
        kind = "pattern" if self.pattern else "prefix" if self.prefix else "object"
        return f"<{kind} {self.ref}{'?…' if self.url and '?' in self.url else ''}>"

    def __str__(self) -> str:
        return str(self.ref)

    @property
    def presigned(self) -> bool:
        """The URL carries a signature: it is good for GET alone, and its signed headers cannot be changed."""
        return self.url is not None and _PRESIGNED.search(urlsplit(self.url).query) is not None


def parse_address(text: str, *, glob: bool = True) -> Address:
    """Read an address. Raises AddressError with one line that says what is wrong with it.

    ``oss://bucket/key``, ``https://host/key`` (``http`` too), with `glob` also patterns (``*``, ``?``,
    ``[…]``) and prefixes (``oss://bucket/logs/``, ``oss://bucket/``). An ``oss`` key is taken as it is
    written, a URL's path is percent-decoded.
    """
    match = _SCHEME.match(text)
    if match is None:
        raise AddressError(f"{_shown(text)} is not an address: write oss://bucket/key or https://host/key")
    scheme = match[1].lower()
    if scheme == "oss":
        return _parse_oss(text, text[match.end() :], glob)
    if scheme in ("http", "https"):
        return _parse_url(text)
    raise AddressError(f"{_shown(text)}: {match[1]}:// is not a scheme of OSS: write oss:// or https://")


def check_bucket(bucket: str) -> None:
    """Raises AddressError for a name that no bucket can have."""
    if not _BUCKET.fullmatch(bucket):
        rule = "3 to 63 of a-z, 0-9 and '-', a letter or digit at both ends"
        raise AddressError(f"{_shown(bucket)} is not a bucket's name: {rule}")


def check_key(key: str) -> None:
    """Raises AddressError for a key that OSS does not take, or that no request can name exactly.

    HTTP clients and proxies fold ``.`` and ``..`` segments away, also when they are percent-encoded
    (RFC 3986 section 5.2.4), and would then ask for another object: such a key is refused.
    """
    try:
        size = len(key.encode())
    except UnicodeEncodeError as error:
        raise AddressError(f"the key {_shown(key)} is not UTF-8") from error
    if size > _MAX_KEY_BYTES:
        raise AddressError(f"the key {_shown(key)} has {size} bytes: the limit is {_MAX_KEY_BYTES}")
    if key.startswith(("/", "\\")):
        raise AddressError(f"the key {_shown(key)} starts with {key[0]!r}, which OSS does not take")
    if any(segment in (".", "..") for segment in key.split("/")):
        reason = "HTTP folds a '.' or '..' between slashes away and would name another object"
        raise AddressError(f"the key {_shown(key)} cannot be asked for: {reason}")


def glob_regex(pattern: str) -> re.Pattern[str]:
    """What a whole key must match: ``*``, ``?`` and ``[…]`` stay inside one path segment, ``**`` crosses.

    ``**/`` also stands for no folder at all. A leading dot is nothing special. ``[!…]`` and ``[^…]`` negate; a
    ``[`` that is never closed is itself.
    """
    return re.compile(_translate(pattern), re.DOTALL)


def literal_prefix(pattern: str) -> str:
    """The part of `pattern` that every matching key starts with, for a listing."""
    match = _GLOB.search(pattern)
    return pattern[: match.start()] if match else pattern


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where requests go: ``https://oss-cn-hangzhou.aliyuncs.com`` and how the bucket is named there."""

    scheme: str
    host: str
    addressing: Addressing = "virtual"

    @classmethod
    def parse(cls, text: str, addressing: Addressing | None = None) -> Endpoint:
        """Read an endpoint with or without a scheme (``https`` then). Raises ConfigError.

        IP addresses and ``localhost`` are addressed path style unless `addressing` says otherwise; all
        others virtual-hosted (OSS documentation, "Access OSS by using domain names").
        """
        scheme, _, rest = text.strip().rpartition("://")
        scheme = scheme.lower() or "https"
        host = rest.removesuffix("/")
        name, port = _split_port(host)
        if "@" in rest:
            raise ConfigError("an endpoint with a user name or password in it is not sent anywhere")
        if scheme not in ("http", "https"):
            raise ConfigError(f"the endpoint {_shown(text)} is neither http nor https")
        if not _is_host(name) or not _is_port(port):
            raise ConfigError(f"the endpoint {_shown(text)} is not a host with an optional port")
        bucket = re.fullmatch(r"(?:.+\.)(oss-[a-z0-9-]+\.aliyuncs\.com)", name)
        if bucket is not None and addressing != "cname":
            raise ConfigError(f"the endpoint {_shown(text)} names a bucket: give {bucket[1]} alone")
        return cls(scheme, host.lower(), addressing or ("path" if is_local_name(name) else "virtual"))

    @classmethod
    def for_region(cls, region: str, addressing: Addressing | None = None) -> Endpoint:
        """The public endpoint of a region. Raises ConfigError for what cannot be a region."""
        return cls.parse(f"oss-{checked_region(region)}.aliyuncs.com", addressing)

    @property
    def region(self) -> str | None:
        """The region that the host names, None when it names none (accelerated, private, custom)."""
        name, _ = _split_port(self.host)
        match = re.fullmatch(r"oss-(?!accelerate)([a-z0-9-]+?)(-internal)?\.aliyuncs\.com", name)
        match = match or re.fullmatch(r"([a-z0-9-]+)\.oss\.aliyuncs\.com", name)
        return match[1] if match else None

    @property
    def loopback(self) -> bool:
        """Whether it is this very machine."""
        name, _ = _split_port(self.host)
        try:
            return ipaddress.ip_address(name).is_loopback
        except ValueError:
            return name == "localhost"

    def url(self, bucket: str | None, key: str | None, query: str = "") -> str:
        """The URL of an object, of a bucket (no key) or of the service (neither); `query` is encoded."""
        host = f"{bucket}.{self.host}" if bucket and self.addressing == "virtual" else self.host
        folder = f"{bucket}/" if bucket and self.addressing == "path" else ""
        path = encode_path(f"/{folder}{key or ''}")
        return f"{self.scheme}://{host}{path}{'?' if query else ''}{query}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}"


def checked_region(region: str) -> str:
    """`region` as signatures want it, ``cn-hangzhou``. Raises ConfigError."""
    region = region.strip().lower()
    if not _REGION.fullmatch(region):
        raise ConfigError(f"{_shown(region)} is not a region: write it like cn-hangzhou")
    if region.startswith("oss-"):
        raise ConfigError(f"{region} is the name of an endpoint: the region is {region.removeprefix('oss-')}")
    return region


def is_local_name(name: str) -> bool:
    """Whether `name` is an IP address or ``localhost``: no bucket can stand before it."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name.lower() == "localhost"
    return True


def _parse_oss(text: str, rest: str, glob: bool) -> Address:
    bucket, slash, key = rest.partition("/")
    if not bucket:
        raise AddressError(f"{_shown(text)} names no bucket: write oss://bucket/key")
    check_bucket(bucket)
    if not key and not (slash and glob):
        every = f"; oss://{bucket}/ stands for all objects in it" if glob else ""
        raise AddressError(f"{_shown(text)} names a bucket and no object{every}")
    check_key(key)
    pattern = glob and _GLOB.search(key) is not None
    prefix = glob and not pattern and (not key or key.endswith("/"))
    return Address(ObjectRef(bucket, key), pattern=pattern, prefix=prefix)


def _parse_url(text: str) -> Address:
    bare = text.partition("?")[0]
    if _CONTROL.search(text):  # urlsplit would drop some of them silently
        raise AddressError(f"{_shown(bare)} holds a control character: write a newline in a key as %0A")
    try:
        parts = urlsplit(text)
        name, port = _split_port(parts.netloc)
    except ValueError as error:
        raise AddressError(f"{_shown(bare)} is not a URL") from error
    if "@" in parts.netloc:
        raise AddressError("a URL with a user name or password in it is not sent anywhere")
    if not _is_host(name) or not _is_port(port):
        raise AddressError(f"{_shown(bare)} names no host: write https://host/key")
    if "#" in text:
        raise AddressError(f"{_shown(bare)} has a fragment: write '#' in a key as %23")
    key = _decoded(bare, parts.path.removeprefix("/"))
    if not key:
        raise AddressError(f"{_shown(bare)} names a host and no object")
    check_key(key)
    ref = ObjectRef(parts.netloc.lower(), key, parts.scheme)
    return Address(ref, url=object_url(ref, parts.query))


def object_url(ref: ObjectRef, query: str = "") -> str:
    """The URL of an object that is known by its URL; `query` goes out as it is, bar what no URL may hold."""
    query = _UNSAFE_IN_QUERY.sub(lambda match: encode_path(match[0]), query)
    return f"{ref.scheme}://{ref.bucket}{encode_path('/' + ref.key)}{'?' if query else ''}{query}"


def _decoded(shown: str, path: str) -> str:
    try:
        return unquote(path, errors="strict")
    except UnicodeDecodeError as error:
        raise AddressError(f"the path of {_shown(shown)} is not UTF-8") from error


def _split_port(host: str) -> tuple[str, str | None]:
    """Host and port apart; an IPv6 address stands in brackets and comes out without them."""
    if host.startswith("["):
        name, bracket, port = host[1:].partition("]")
        return (name, port.removeprefix(":") if port else None) if bracket and ":" in name else ("", None)
    name, colon, port = host.partition(":")
    return name, port if colon else None


def _is_host(name: str) -> bool:
    return len(name) <= 253 and (_HOST_NAME.fullmatch(name) is not None or is_local_name(name))


def _is_port(port: str | None) -> bool:
    return port is None or (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536)


def _shown(text: str) -> str:
    """`text` for a message: quoted, on one line, not endless, and without a user name or password before a host."""
    text = re.sub(r"//[^/]*@", "//…@", text)
    return repr(text if len(text) <= 200 else f"{text[:200]}…")


def _translate(pattern: str) -> str:
    segments = pattern.split("/")
    out = []
    for number, segment in enumerate(segments, 1):
        last = number == len(segments)
        if segment.strip("*") == "" and len(segment) > 1:
            out.append(".*" if last else "(?:.*/)?")
        else:
            out.append(_translate_segment(segment) + ("" if last else "/"))
    return "".join(out)


def _translate_segment(segment: str) -> str:
    """One path segment. Each ``*`` but the last takes the first place where what follows it fits, for good.

    That loses no match, as everything between two stars has a fixed length, and it keeps a pattern with
    many stars from taking exponential time. Not so after ``**``, which may leave the segment.
    """
    if "**" in segment:
        crossing = re.split(r"\*\*+", segment)
        return ".*".join("[^/]*".join(_translate_fixed(part) for part in piece.split("*")) for piece in crossing)
    first, *rest = (_translate_fixed(part) for part in _split_stars(segment))
    if not rest:
        return first
    middle = "".join(f"(?>[^/]*?{part})" for part in rest[:-1])
    return f"{first}{middle}[^/]*{rest[-1]}"


def _split_stars(segment: str) -> list[str]:
    """Split at the stars that stand outside brackets."""
    parts, start = [], 0
    for match in re.finditer(r"\[[!^]?\]?[^\]]*\]|\*", segment):
        if match[0] == "*":
            parts.append(segment[start : match.start()])
            start = match.end()
    return [*parts, segment[start:]]


def _translate_fixed(text: str) -> str:
    """``?``, ``[…]`` and literal characters: each takes exactly one character."""
    out = []
    for match in re.finditer(r"\[([!^]?)(\]?[^\]]*)\]|.", text, re.DOTALL):
        if match[2] is not None and match[2] != "":
            out.append(_translate_class(match[2], negated=bool(match[1])))
        else:
            out.append("[^/]" if match[0] == "?" else re.escape(match[0]))
    return "".join(out)


def _translate_class(members: str, *, negated: bool) -> str:
    """What stands in brackets; never a slash. A range the wrong way round holds nothing, as in a shell."""
    allowed = []
    for match in re.finditer(r"(.)-(.)|.", members, re.DOTALL):
        if match[1] is None:
            allowed.append(re.escape(match[0]))
        elif match[1] <= match[2]:
            allowed.append(f"{re.escape(match[1])}-{re.escape(match[2])}")
    if negated:
        return f"[^/{''.join(allowed)}]"
    return f"(?!/)[{''.join(allowed)}]" if allowed else "(?!)"
