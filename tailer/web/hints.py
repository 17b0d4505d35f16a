"""Notifications of events of OSS, read as hints: which objects somebody says have changed.

A hint is never believed for more than that: it may come late, twice, out of order, from anybody, or not at all. It
wakes the reader of a followed object, and what is true of the object is asked of OSS. Pure; every input is taken for
hostile.

The forms (OSS documentation, "Event notification"; Simple Message Queue documentation, "NotifyContentFormat";
EventBridge documentation, "OSS events"): a JSON object with ``events``; CloudEvents, one or a list, with the same
event in ``data``; either of them as the ``Message`` of the envelope in JSON or XML that a topic pushes; each of these
in base64.
"""

from __future__ import annotations

import base64
import html
import json
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote, unquote_plus

from tailer.core.position import ObjectRef
from tailer.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_BODY = 256 * 1024
"""Bytes of a request with hints: a message of the queue has at most 64 KiB, before base64."""

_MAX_DEPTH = 4  # base64 of an envelope with base64 of the events is 3
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}", re.ASCII)


def parse_hints(body: bytes) -> list[ObjectRef]:
    """The objects that `body` names as changed, each once, in its order. Raises UsageError: it is no notification.

    An event of reading is none of a change, and left out: our own reading would wake us for ever.
    """
    try:
        text = body.decode("utf-8-sig")
        return list(dict.fromkeys(ref for event in _events(text, _MAX_DEPTH) for ref in _changed(event)))
    except (ValueError, RecursionError) as error:
        raise UsageError("not a notification of OSS: neither JSON nor base64 of it") from error


def spellings(ref: ObjectRef) -> list[ObjectRef]:
    """`ref` as it was named, then as it is meant where a sender has percent-encoded the key."""
    keys = dict.fromkeys([ref.key, unquote(ref.key), unquote_plus(ref.key)])
    return [ObjectRef(ref.bucket, key) for key in keys]


def _events(text: str, depth: int) -> Iterator[object]:
    """The events in `text`, whatever it is wrapped in, `depth` times at most."""
    if depth == 0:
        raise UsageError("not a notification of OSS: wrapped too often")
    text = text.strip()
    if _BASE64.fullmatch(packed := "".join(text.split())):
        yield from _events(base64.b64decode(packed, validate=True).decode(), depth - 1)
    elif text.startswith("<"):
        yield from _events(_message(text), depth - 1)
    else:
        yield from _unwrapped(json.loads(text), depth)


def _message(text: str) -> str:
    """Of the envelope in XML, what was sent. It is not worth a parser: nothing else in it is looked at."""
    message, end, _ = text.partition("<Message>")[2].partition("</Message>")
    if not end:
        raise UsageError("not a notification of OSS: XML without a Message")
    message = message.strip()
    if message.startswith("<![CDATA["):
        return message.removeprefix("<![CDATA[").removesuffix("]]>")
    return html.unescape(message)


def _unwrapped(value: object, depth: int) -> Iterator[object]:
    match value:
        case {"events": list(events)}:
            yield from events
        case {"data": dict(data)}:
            yield data
        case {"Message": str(message)}:
            yield from _events(message, depth - 1)
        case [*values]:
            for one in values:
                yield one["data"] if isinstance(one, dict) and "data" in one else one
        case _:
            yield value


def _changed(event: object) -> Iterator[ObjectRef]:
    match event:
        case {"eventName": str(name)} if name.endswith(":GetObject"):
            return
        case {"oss": {"bucket": {"name": str(bucket)}, "object": {"key": str(key)}}}:
            yield ObjectRef(bucket, key)
        case _:
            raise UsageError("not a notification of OSS: an event without oss.bucket.name and oss.object.key")
