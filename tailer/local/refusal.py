"""A request that the server turns down: one exception, and the refusals that more than one place needs.

Codes, statuses and messages are those of the OSS documentation ("Error codes") and of answers that
SDK integration tests assert. EC is given where a published page or test names it, and left out elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Refusal(Exception):
    """Answered as an ``<Error>`` document; `fields` are its further elements, `headers` go with the answer.

    A field is text, or a row of named texts that are elements of their own.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        ec: str | None = None,
        fields: Mapping[str, str | Sequence[tuple[str, str]]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.ec = ec
        self.fields = dict(fields or {})
        self.headers = dict(headers or {})


def no_such_bucket(bucket: str) -> Refusal:
    """404 NoSuchBucket."""
    message = "The specified bucket does not exist."
    return Refusal(404, "NoSuchBucket", message, ec="0015-00000101", fields={"BucketName": bucket})


def no_such_key(key: str) -> Refusal:
    """404 NoSuchKey."""
    return Refusal(404, "NoSuchKey", "The specified key does not exist.", ec="0026-00000001", fields={"Key": key})


def no_such_version(key: str, version: str) -> Refusal:
    """404 NoSuchVersion."""
    fields = {"Key": key, "VersionId": version}
    return Refusal(404, "NoSuchVersion", "The specified version does not exist.", fields=fields)


def position_mismatch(size: int) -> Refusal:
    """409 PositionNotEqualToLength; the header is on every one of them, for clients read it without a default."""
    return Refusal(
        409,
        "PositionNotEqualToLength",
        "Position is not equal to file length",
        ec="0026-00000016",
        headers={"x-oss-next-append-position": str(size)},
    )


def invalid_argument(name: str, value: str, message: str, ec: str | None = None) -> Refusal:
    """400 InvalidArgument that names the argument."""
    fields = {"ArgumentName": name, "ArgumentValue": value}
    return Refusal(400, "InvalidArgument", message, ec=ec, fields=fields)


def not_implemented(what: str) -> Refusal:
    """501: never a success for something that was not done."""
    return Refusal(501, "NotImplemented", f"A header or operation you provided is not implemented: {what}")


def whole_number(text: str) -> int | None:
    """0 or more in plain digits, as far as 64 bits may go; None for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 19 else None
