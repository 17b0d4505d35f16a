"""The XML that goes out and the little that comes in. Text is escaped so that any reader gets it back."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote
from xml.etree import ElementTree

from tailer.local.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Node = tuple[str, "str | Iterable[Node]"]
"""A name, and text or children."""

_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\r": "&#13;"}
_SPECIAL = re.compile(r'[&<>"\r]')
# XML 1.0 has no way to write these, not even as references (section 2.2).
_IMPOSSIBLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
MAX_BYTES = 2 << 20


def document(name: str, content: str | Iterable[Node]) -> bytes:
    """One element as a document."""
    parts = ['<?xml version="1.0" encoding="UTF-8"?>\n']
    _write(parts, name, content, "")
    return "".join(parts).encode("utf-8")


def _write(parts: list[str], name: str, content: str | Iterable[Node], indent: str) -> None:
    if isinstance(content, str):
        parts.append(f"{indent}<{name}>{escape(content)}</{name}>\n")
        return
    parts.append(f"{indent}<{name}>\n")
    for child, inner in content:
        _write(parts, child, inner, indent + "  ")
    parts.append(f"{indent}</{name}>\n")


def escape(text: str) -> str:
    """Text as XML; characters that XML cannot carry become U+FFFD (``encoding-type=url`` is for those)."""
    return _SPECIAL.sub(lambda match: _ESCAPES[match[0]], _IMPOSSIBLE.sub("\ufffd", text))


def url_encoded(text: str) -> str:
    """A name as ``encoding-type=url`` writes it."""
    return quote(text, safe="")


def parse(body: bytes, root: str) -> ElementTree.Element:
    """A request's body, whose element must be `root`. Raises MalformedXML."""
    # Without a document type there are no entities of its own, so none that expand to gigabytes.
    if len(body) <= MAX_BYTES and b"<!DOCTYPE" not in body:
        try:
            element = ElementTree.fromstring(body)
        except ElementTree.ParseError as error:
            raise malformed() from error
        for node in element.iter():
            node.tag = node.tag.rpartition("}")[2]
        if element.tag == root:
            return element
    raise malformed()


def malformed() -> Refusal:
    """400 MalformedXML."""
    return Refusal(400, "MalformedXML", "The XML you provided was not well-formed or did not validate.")


def tags_of(body: bytes) -> Sequence[tuple[str, str]]:
    """The pairs of a ``<Tagging>`` document."""
    tags = parse(body, "Tagging").iterfind("TagSet/Tag")
    return [(tag.findtext("Key", ""), tag.findtext("Value", "")) for tag in tags]
