"""Access keys, and where they come from."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

from tailer.errors import ConfigError, TailerError, TransportError
from tailer.oss.unshown import UnshownDict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tailer.oss.profile import Profile

_HOW_TO_GIVE_A_KEY = "set OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET, or use --no-sign-request for a public object"
# The official package says whole URLs and whole answers: a query may hold a signature or a token.
_UNTOLD = re.compile(r'\?\S*|"(?:AccessKeySecret|SecurityToken)"\s*:\s*"[^"]*"', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Credentials:
    """An access key; with `security_token` a temporary one, good until `expiration` (seconds since 1970)."""

    access_key_id: str
    access_key_secret: str = field(repr=False)
    security_token: str | None = field(default=None, repr=False)
    expiration: float | None = None


class CredentialsProvider(Protocol):
    """Where credentials come from."""

    async def get(self) -> Credentials | None:
        """The credentials to sign with, None to send requests unsigned.

        Raises ConfigError, and TransportError where there were some that cannot be renewed now.
        """
        ...

    async def refresh(self) -> None:
        """Fetch them again: the service said that they have expired. Raises ConfigError."""
        ...


_VARIABLES = ("OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET", "OSS_SESSION_TOKEN")


class StaticCredentials:
    """Credentials that never change."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    async def get(self) -> Credentials:
        """Always the same."""
        return self._credentials

    async def refresh(self) -> None:
        """There is nothing else to fetch."""


class Anonymous:
    """No credentials: for objects that everybody may read."""

    async def get(self) -> None:
        """Nothing to sign with."""

    async def refresh(self) -> None:
        """There is nothing to fetch."""


class EnvironmentCredentials:
    """``OSS_ACCESS_KEY_ID``, ``OSS_ACCESS_KEY_SECRET`` and ``OSS_SESSION_TOKEN``, read anew at each refresh."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._credentials = _from_environment(environ)

    @staticmethod
    def present(environ: Mapping[str, str]) -> bool:
        """Whether the environment says anything about an access key."""
        return any(environ.get(name, "").strip() for name in _VARIABLES[:2])

    async def get(self) -> Credentials:
        """As read last."""
        return self._credentials

    async def refresh(self) -> None:
        """Read the environment again: a program can have put a new token there."""
        self._credentials = _from_environment(self._environ)


def _from_environment(environ: Mapping[str, str]) -> Credentials:
    """Without white space around them: a secret made from a file often has its newline, and no key has any."""
    found = UnshownDict({name: environ.get(name, "").strip() for name in _VARIABLES})
    for name in _VARIABLES[:2]:
        if not found[name]:
            raise ConfigError(f"{name} is not set, but its other half is")
    key, secret, token = found.values()
    return Credentials(key, secret, token or None)


class RereadCredentials:
    """Credentials that `read` fetches from where somebody may change them: files that a mounted secret consists of.

    Read anew at each refresh, and once a minute. `read` is quick and raises ConfigError; where it does so in mid-run,
    because a file is being changed, say, what was read before is used until the service refuses it.
    """

    _KEEP_SECONDS = 60.0

    def __init__(self, read: Callable[[], Credentials], clock: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self._clock = clock
        self._credentials = read()
        self._read_at = clock()

    async def get(self) -> Credentials:
        """As read in the last minute."""
        if self._clock() - self._read_at > self._KEEP_SECONDS:
            with suppress(ConfigError):
                self._credentials = self._read()
            self._read_at = self._clock()
        return self._credentials

    async def refresh(self) -> None:
        """Read them again."""
        self._credentials = self._read()
        self._read_at = self._clock()


class ChainCredentials:
    """The official `alibabacloud_credentials` package: RAM roles, OIDC, credentials URIs, CLI profiles.

    `options` are those of its ``Config``; without any its default chain is asked. The package blocks, so it runs in a
    thread; it renews what runs out, so it is asked again once a minute. Where it fails to, what it gave before is used
    until the service refuses it, and from then on the failure may pass: it is a TransportError. Raises ConfigError
    when it is not installed.
    """

    _KEEP_SECONDS = 60.0

    def __init__(self, options: Mapping[str, str] | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        if find_spec("alibabacloud_credentials") is None:
            where = "OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET, or a profile of ~/.ossutilconfig"
            how = "RAM roles and the like need: pip install 'oss-tail[credentials]'"
            raise ConfigError(f"no access key is set: give {where}, or --no-sign-request; {how}")
        self._options = UnshownDict(options or {})
        self._clock = clock
        self._client: Any = None
        self._credentials: Credentials | None = None
        self._has_found = False
        self._asked_at = 0.0
        self._lock = asyncio.Lock()

    async def get(self) -> Credentials:
        """As the package knows them."""
        async with self._lock:
            known = self._credentials
            if known is None or self._clock() - self._asked_at > self._KEEP_SECONDS:
                known = self._credentials = await self._renewed(known)
                self._asked_at = self._clock()
            return known

    async def refresh(self) -> None:
        """Forget what the package has kept."""
        async with self._lock:
            self._client = self._credentials = None

    async def _renewed(self, known: Credentials | None) -> Credentials:
        """What the package says now; where it fails, those that are known and were not refused."""
        try:
            found = await asyncio.to_thread(self._ask)
        except TailerError:
            if known is None:
                raise
            return known
        self._has_found = True
        return found

    def _ask(self) -> Credentials:
        try:
            if self._client is None:
                self._client = _open_client(self._options)
            found = self._client.get_credential()
        except Exception as error:  # its sources raise whatever they please
            reason = _UNTOLD.sub("…", " ".join(str(error).split()))[:300]
            raise self._failure(f": {reason}") from None  # in its words and frames are secrets
        if not found.access_key_id or not found.access_key_secret:
            raise self._failure()
        return Credentials(found.access_key_id, found.access_key_secret, found.security_token or None)

    def _failure(self, reason: str = "") -> TailerError:
        """Where keys were found before, nothing is wrong with how they are set up."""
        if self._has_found:
            return TransportError(f"the access key has run out, and no new one was found{reason}")
        return ConfigError(f"no access key was found{reason}", hint=_HOW_TO_GIVE_A_KEY)


def _open_client(options: UnshownDict) -> Any:
    """A client of the package, which writes no log: of each failure that would be 200 lines with all that was sent."""
    from alibabacloud_credentials.client import Client  # type: ignore[import-untyped]  # it has no types
    from alibabacloud_credentials.models import Config  # type: ignore[import-untyped]  # it has no types

    logging.getLogger("credentials").addFilter(_is_of_others)
    return Client(Config(**options) if options else None)


def _is_of_others(record: logging.LogRecord) -> bool:
    return "alibabacloud_credentials" not in record.pathname


def credentials_of_profile(profile: Profile) -> CredentialsProvider | None:
    """What a profile of ossutil says about credentials, None when nothing. Raises ConfigError."""
    mode = profile.get("mode") or _implied_mode(profile)
    if mode is None:
        return None
    match mode.lower().replace("-", ""):
        case "anonymous":
            return Anonymous()
        case "ak" | "ststoken":
            return StaticCredentials(_static(profile))
        case "ramrolearn" | "ecsramrole" | "oidcrolearn" | "credentialsuri" | "uri" as role:
            return ChainCredentials(_chain_options(role, profile))
    raise ConfigError(f"{profile.source}: the mode {mode!r} is not supported; use AK, StsToken or a RAM role")


def _implied_mode(profile: Profile) -> str | None:
    keys = {
        "oidcproviderarn": "OidcRoleArn",
        "rolearn": "RamRoleArn",
        "ramrolearn": "RamRoleArn",
        "ecsrolename": "EcsRamRole",
        "credentialuri": "CredentialsURI",
        "credentialprocess": "Process",
        "accesskeyid": "AK",
        "accesskeysecret": "AK",
    }
    return next((mode for key, mode in keys.items() if profile.get(key)), None)


def _static(profile: Profile) -> Credentials:
    for name, written in (("accesskeyid", "access-key-id"), ("accesskeysecret", "access-key-secret")):
        if not profile.get(name):
            raise ConfigError(f"{profile.source} has no {written}")
    key, secret = profile.get("accesskeyid") or "", profile.get("accesskeysecret") or ""
    return Credentials(key, secret, profile.get("ststoken"))


def _chain_options(mode: str, profile: Profile) -> UnshownDict:
    """A profile in the words of the package's ``Config``."""
    words = UnshownDict(
        access_key_id=profile.get("accesskeyid") or "",
        access_key_secret=profile.get("accesskeysecret") or "",
        security_token=profile.get("ststoken") or "",
        role_arn=profile.get("rolearn") or profile.get("ramrolearn") or "",
        role_session_name=profile.get("rolesessionname") or "",
        external_id=profile.get("externalid") or "",
        oidc_provider_arn=profile.get("oidcproviderarn") or "",
        oidc_token_file_path=profile.get("oidctokenfilepath") or "",
        role_name=profile.get("ecsrolename") or "",
        credentials_uri=profile.get("credentialuri") or profile.get("credentialsuri") or "",
    )
    kinds = {
        "ramrolearn": ("ram_role_arn", {"access_key_id", "access_key_secret", "role_arn"}),
        "ecsramrole": ("ecs_ram_role", set[str]()),
        "oidcrolearn": ("oidc_role_arn", {"role_arn", "oidc_provider_arn", "oidc_token_file_path"}),
        "credentialsuri": ("credentials_uri", {"credentials_uri"}),
    }
    kind, needed = kinds["credentialsuri" if mode == "uri" else mode]
    missing = sorted(word for word in needed if not words[word])
    if missing:
        raise ConfigError(f"{profile.source}: the mode {mode} needs {', '.join(missing).replace('_', '-')}")
    return UnshownDict(type=kind, **{word: value for word, value in words.items() if value})
