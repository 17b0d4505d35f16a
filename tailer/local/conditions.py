"""If-Match and its kin (OSS documentation, GetObject and HeadObject; RFC 9110 section 13 where those are silent)."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from tailer.local.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping


def not_modified(headers: Mapping[str, str], etag: str, modified: float) -> bool:
    """True: the answer is 304. Raises PreconditionFailed. `modified` is in seconds, compared in whole ones."""
    _check_if_match(headers.get("if-match"), etag)
    _check_unmodified(headers.get("if-unmodified-since"), modified)
    tags = headers.get("if-none-match")
    if tags is not None:
        return _names(tags, etag)
    since = _seconds(headers.get("if-modified-since"))
    return since is not None and int(modified) <= since


def _check_if_match(tags: str | None, etag: str) -> None:
    if tags is not None and not _names(tags, etag):
        raise _failed("If-Match")


def _check_unmodified(text: str | None, modified: float) -> None:
    since = _seconds(text)
    if since is not None and int(modified) > since:
        raise _failed("If-Unmodified-Since")


def _names(tags: str, etag: str) -> bool:
    return any(tag.strip().removeprefix("W/").strip('"') in ("*", etag) for tag in tags.split(","))


def _seconds(text: str | None) -> float | None:
    """None for what cannot be read: such a condition does not count (OSS documentation, GetObject)."""
    try:
        return parsedate_to_datetime(text).timestamp() if text else None
    except ValueError:
        return None


def _failed(condition: str) -> Refusal:
    message = "At least one of the pre-conditions you specified did not hold."
    return Refusal(412, "PreconditionFailed", message, fields={"Condition": condition})
