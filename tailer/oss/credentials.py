"""Access keys, and where they come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from tailer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping


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
        """The credentials to sign with, None to send requests unsigned. Raises ConfigError."""
        ...

    async def refresh(self) -> None:
        """Fetch them again: the service said that they have expired. Raises ConfigError."""
        ...


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
        return bool(environ.get("OSS_ACCESS_KEY_ID") or environ.get("OSS_ACCESS_KEY_SECRET"))

    async def get(self) -> Credentials:
        """As read last."""
        return self._credentials

    async def refresh(self) -> None:
        """Read the environment again: a program can have put a new token there."""
        self._credentials = _from_environment(self._environ)


def _from_environment(environ: Mapping[str, str]) -> Credentials:
    key, secret = environ.get("OSS_ACCESS_KEY_ID"), environ.get("OSS_ACCESS_KEY_SECRET")
    if not key or not secret:
        missing = "OSS_ACCESS_KEY_SECRET" if key else "OSS_ACCESS_KEY_ID"
        raise ConfigError(f"{missing} is not set, but its other half is")
    return Credentials(key, secret, environ.get("OSS_SESSION_TOKEN") or None)
