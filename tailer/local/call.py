"""What a request is once it is understood, and what goes back: the words between the wire and the operations."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from tailer.local import xml
from tailer.local.faults import NOTHING, Strikes
from tailer.local.refusal import Refusal, invalid_argument, whole_number

if TYPE_CHECKING:
    import hashlib
    from collections.abc import Callable, Mapping, Sequence

    from tailer.local.keys import AccessKey
    from tailer.local.store import Contents, Upload
    from tailer.local.xml import Node

OWNER = "local"


class Body(Protocol):
    """A request's body."""

    length: int | None
    """Content-Length in bytes; None for a chunked one."""

    present: bool
    """Whether the request says that there is one, be it of no bytes."""

    async def spool(self, upload: Upload, limit: int, digest: hashlib._Hash | None) -> None:
        """Read all of it into `upload` and `digest`. Raises EntityTooLarge behind `limit` bytes."""
        ...

    async def read(self, limit: int) -> bytes:
        """All of a small one."""
        ...


@dataclass(slots=True)
class Call:
    """One request. Header names are lower case; the first of several equal query parameters counts."""

    method: str
    bucket: str | None
    key: str | None
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Body
    caller: AccessKey | None = None
    strikes: Strikes = NOTHING

    @property
    def object(self) -> tuple[str, str]:
        """Bucket and key."""
        return self.bucket or "", self.key or ""

    @property
    def position(self) -> int:
        """The parameter of an append, in bytes. Raises MissingArgument and InvalidArgument."""
        text = self.query.get("position")
        if not text:
            raise Refusal(400, "MissingArgument", "The argument position is missing.", ec="0016-00000501")
        position = whole_number(text)
        if position is None:
            raise invalid_argument("position", text, "The position must be a whole number of bytes, 0 or more.")
        return position

    @property
    def max_keys(self) -> int:
        """Rows of a page. Raises InvalidArgument."""
        text = self.query.get("max-keys") or "100"
        rows = whole_number(text)
        if rows is None or not 1 <= rows <= 1000:
            raise invalid_argument("max-keys", text, "max-keys must be 1 to 1000.")
        return rows

    @property
    def encoder(self) -> Callable[[str], str]:
        """How names are written in the answer. Raises InvalidArgument."""
        encoding = self.query.get("encoding-type")
        if encoding == "url":
            return xml.url_encoded
        if encoding:
            raise invalid_argument("encoding-type", encoding, "The encoding type must be url.")
        return str

    def require_length(self) -> None:
        """Raises MissingContentLength for a body that is not announced."""
        if not self.body.present:
            raise Refusal(411, "MissingContentLength", "You must provide the Content-Length HTTP header.")


@dataclass(slots=True)
class Answer:
    """What goes back: `body`, or bytes [start, stop) of `contents`, which the wire closes.

    `rate` bounds the sending in bytes per second.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    contents: Contents | None = None
    start: int = 0
    stop: int = 0
    rate: float | None = None

    @property
    def length(self) -> int:
        """Bytes of the body."""
        return self.stop - self.start if self.contents is not None else len(self.body)


def xml_date(seconds: float) -> str:
    """A time as documents write it."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def xml_answer(name: str, children: str | Sequence[Node]) -> Answer:
    """A document."""
    return Answer(headers={"Content-Type": "application/xml"}, body=xml.document(name, children))


def acl_answer(acl: str) -> Answer:
    """Of a bucket or an object."""
    return xml_answer("AccessControlPolicy", [owner(), ("AccessControlList", [("Grant", acl)])])


def owner() -> Node:
    """Everything belongs to one."""
    return "Owner", [("ID", OWNER), ("DisplayName", OWNER)]
