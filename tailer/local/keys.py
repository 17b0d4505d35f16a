"""Access keys: what the server knows of who may call it, in a program and as JSON."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tailer.local.permissions import actions_of, permits

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_TEXTS = ("id", "secret", "token")
_SECONDS = ("expires", "expires_in")
_FIELDS = (*_TEXTS, *_SECONDS, "allow")


@dataclass(frozen=True, slots=True)
class AccessKey:
    """A key pair; with `token` a temporary one that is good until `expires` (seconds since 1970).

    `allow` is what it may do: ``full``, ``read-only``, ``append-only``, and actions of RAM such as
    ``oss:PutObjectTagging`` or ``oss:Get*``. What the ACL of a bucket or an object opens to everybody is open
    to every key. Raises ValueError for an id or a secret that is empty, an unknown permission, and a key that
    expires without a token.
    """

    id: str
    secret: str
    token: str | None = None
    expires: float | None = None
    allow: Sequence[str] = ("full",)
    actions: Sequence[str] = field(init=False)
    """`allow` as actions alone."""

    def __post_init__(self) -> None:
        if not (self.id and self.secret):
            raise ValueError("an access key has an id and a secret")
        if self.token is None and self.expires is not None:
            raise ValueError("an access key without a token does not expire")
        # A plain string would be taken letter by letter.
        words = (self.allow,) if isinstance(self.allow, str) else tuple(self.allow)
        object.__setattr__(self, "allow", words)
        object.__setattr__(self, "actions", actions_of(words))

    def __repr__(self) -> str:
        return f"AccessKey({self.id!r})"

    def lacks(self, actions: Iterable[str]) -> str | None:
        """The first of these actions that is not allowed."""
        return next((action for action in actions if not permits(self.actions, action)), None)


def keys_from_json(text: str, now: float) -> list[AccessKey]:
    """A list of objects, or one, with ``id``, ``secret`` and, where wanted, ``token``, ``expires`` and ``allow``.

    ``expires_in`` in place of ``expires`` counts the seconds from `now`. Raises ValueError, which names the key by
    its place and shows no secret.
    """
    data = json.loads(text)
    items = data if isinstance(data, list) else [data]
    if not (items and all(isinstance(item, dict) for item in items)):
        raise ValueError("expected a list of objects")
    keys = []
    for number, item in enumerate(items, start=1):
        try:
            keys.append(_key(item, now))
        except ValueError as error:
            raise ValueError(f"key {number}: {error}") from error
    return keys


def _key(item: Mapping[str, Any], now: float) -> AccessKey:
    _check_fields(item)
    given = dict(item)
    lasts = given.pop("expires_in", None)
    if lasts is not None:
        given["expires"] = now + lasts
    return AccessKey(**given)


def _check_fields(item: Mapping[str, Any]) -> None:
    for name, value in item.items():
        if name not in _FIELDS:
            raise ValueError(f"no such field: {name!r}; there are {', '.join(_FIELDS)}")
        if name in _TEXTS and not isinstance(value, str):
            raise ValueError(f"{name} must be a string")
        if name in _SECONDS and not _is_number(value):
            raise ValueError(f"{name} must be a number of seconds")
        if name == "allow" and not (isinstance(value, list) and all(isinstance(word, str) for word in value)):
            raise ValueError("allow must be a list of strings")
    if not ("id" in item and "secret" in item):
        raise ValueError("id or secret is missing")
    if "expires" in item and "expires_in" in item:
        raise ValueError("expires and expires_in are one or the other")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
