"""Where the service is and whose keys are used: argument, then environment, then file, then default.

The same order everywhere, and `resolve_service` is the one place that knows it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tailer.errors import ConfigError
from tailer.oss.address import Endpoint, checked_region
from tailer.oss.client import ServiceSettings as ServiceSettings
from tailer.oss.credentials import (
    Anonymous,
    ChainCredentials,
    EnvironmentCredentials,
    credentials_of_profile,
)
from tailer.oss.profile import Profile, read_profile
from tailer.oss.transport import Timeouts
from tailer.oss.unshown import UnshownEnvironment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tailer.oss.address import Addressing
    from tailer.oss.client import SignatureVersion
    from tailer.oss.credentials import CredentialsProvider
    from tailer.oss.transport import Kind

# A V4 signature must name a region, and this is the one that oss-local goes by.
_LOOPBACK_REGION = "cn-local"

_NO_ENDPOINT = (
    "nothing says where the service is: give {} or {}, set OSS_REGION or OSS_ENDPOINT, "
    "or write region= into ~/.ossutilconfig; to try things out on this machine run oss-local"
)


def resolve_service(
    *,
    endpoint: str | None = None,
    region: str | None = None,
    profile: str | None = None,
    addressing: Addressing | None = None,
    no_sign_request: bool = False,
    sign_version: SignatureVersion | None = None,
    transport: Kind | None = None,
    timeouts: Timeouts | None = None,
    urls_only: bool = False,
    credentials: CredentialsProvider | None = None,
    option: str = "--{}",
    environ: Mapping[str, str] = os.environ,
) -> ServiceSettings:
    """All that a client needs to know. Raises ConfigError with one line that says what is missing or wrong.

    `profile` names a section of ``~/.ossutilconfig`` (or ``OSSUTIL_CONFIG_FILE``); its keys go before those
    of the environment. `urls_only`: nothing but ``https://`` objects will be read, so neither an endpoint
    nor keys are looked for. The file is read only when something is not known without it. `credentials` go before all
    others. `option` is how the arguments are called in errors, ``oss.{}`` say.
    """
    timeouts = timeouts or Timeouts()
    if urls_only:
        return ServiceSettings(Anonymous(), transport=transport, timeouts=timeouts)
    environ = UnshownEnvironment(environ)
    file = _ProfileFile(environ, profile)
    place = _place(endpoint, region, addressing, environ, file, option)
    if no_sign_request:
        credentials = Anonymous()
    credentials = credentials or _credentials(profile, environ, file)
    version = sign_version or _sign_version(file)
    if place.region is None and version == "v4" and not isinstance(credentials, Anonymous):
        given = option.format("region")
        raise ConfigError(f"the endpoint {place.endpoint} names no region: give {given} or set OSS_REGION")
    return ServiceSettings(
        credentials,
        endpoint=place.endpoint,
        region=place.region,
        buckets=place.buckets,
        sign_version=version,
        transport=transport,
        timeouts=timeouts,
    )


class _Place(NamedTuple):
    endpoint: Endpoint
    region: str | None
    buckets: Mapping[str, Endpoint]


class _Choice(NamedTuple):
    """A value, who gave it, and its rank: the less the stronger."""

    value: str
    source: str
    rank: int


@dataclass
class _ProfileFile:
    """The profile that the file holds, read when it is first asked for."""

    environ: Mapping[str, str]
    wanted: str | None

    @property
    def path(self) -> Path:
        home = self.environ.get("HOME")
        named = self.environ.get("OSSUTIL_CONFIG_FILE")
        return Path(named).expanduser() if named else (Path(home) if home else Path.home()) / ".ossutilconfig"

    @cached_property
    def profile(self) -> Profile:
        name = self.wanted or self.environ.get("OSSUTIL_PROFILE") or None
        optional = name is None and not self.environ.get("OSSUTIL_CONFIG_FILE")
        if optional and not self.path.exists():
            return Profile(str(self.path))
        return read_profile(self.path, name)

    @property
    def was_read(self) -> bool:
        return "profile" in self.__dict__


def _pick(*candidates: tuple[str, Callable[[], str | None]]) -> _Choice | None:
    """The first candidate that has a value; those after it are not asked."""
    for rank, (source, ask) in enumerate(candidates):
        if value := ask():
            return _Choice(value, source, rank)
    return None


def _place(
    endpoint: str | None,
    region: str | None,
    addressing: Addressing | None,
    environ: Mapping[str, str],
    file: _ProfileFile,
    option: str,
) -> _Place:
    """Endpoint and region. A region that stands lower in the order than the endpoint does not touch it."""
    regions: list[tuple[str, Callable[[], str | None]]] = [
        (option.format("region"), lambda: region),
        ("OSS_REGION", lambda: environ.get("OSS_REGION")),
        (str(file.path), lambda: file.profile.get("region")),
    ]
    where = _pick(
        (option.format("endpoint"), lambda: endpoint),
        ("OSS_ENDPOINT", lambda: environ.get("OSS_ENDPOINT")),
        (str(file.path), lambda: file.profile.get("endpoint")),
    )
    if where is None:
        chosen = _pick(*regions)
        if chosen is None:
            raise ConfigError(_NO_ENDPOINT.format(option.format("region"), option.format("endpoint")))
        style = addressing or _addressing(file.profile.get("addressingstyle"), file)
        name = checked_region(chosen.value)
        return _Place(Endpoint.for_region(name, style), name, _bucket_endpoints(file))
    from_file = where.rank == 2
    style = addressing or (_addressing(file.profile.get("addressingstyle"), file) if from_file else None)
    parsed = Endpoint.parse(where.value, style)
    own = parsed.region or (_LOOPBACK_REGION if parsed.loopback else None)
    chosen = _pick(*(regions if own is None else regions[: where.rank + 1]))
    if chosen is not None:
        _check_agreement(parsed, where, chosen)
    name_or_none = checked_region(chosen.value) if chosen else own
    return _Place(parsed, name_or_none, _bucket_endpoints(file) if from_file else {})


def _check_agreement(endpoint: Endpoint, where: _Choice, chosen: _Choice) -> None:
    """The names of some endpoints are longer than their region's, so a common beginning is enough."""
    own, region = endpoint.region, checked_region(chosen.value)
    if own is not None and not own.startswith(region) and not region.startswith(own):
        raise ConfigError(f"the endpoint {endpoint} ({where.source}) is in {own}, but {chosen.source} says {region}")


def _addressing(text: str | None, file: _ProfileFile) -> Addressing | None:
    match (text or "").lower():
        case "":
            return None
        case "virtual" | "path" | "cname" as style:
            return style
    raise ConfigError(f"{file.path}: addressing-style is {text!r}: it can be virtual, path or cname")


def _bucket_endpoints(file: _ProfileFile) -> dict[str, Endpoint]:
    return {
        bucket: Endpoint.parse(settings["endpoint"], _addressing(settings.get("addressingstyle"), file))
        for bucket, settings in file.profile.buckets.items()
        if settings.get("endpoint")
    }


def _credentials(profile: str | None, environ: Mapping[str, str], file: _ProfileFile) -> CredentialsProvider:
    in_environment = EnvironmentCredentials.present(environ)
    if profile is not None or not in_environment:
        found = credentials_of_profile(file.profile)
        if found is not None:
            return found
    return EnvironmentCredentials(environ) if in_environment else ChainCredentials()


def _sign_version(file: _ProfileFile) -> SignatureVersion:
    text = (file.profile.get("signversion") or "v4") if file.was_read else "v4"
    match text.lower():
        case "v1" | "v4" as version:
            return version
    raise ConfigError(f"{file.path}: sign-version is {text!r}: it can be v4 or v1")
