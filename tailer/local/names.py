"""Which names a bucket and an object may have (OSS documentation, "Naming conventions")."""

from __future__ import annotations

import re

from tailer.local.refusal import Refusal

_BUCKET = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
MAX_KEY_BYTES = 1023


def is_bucket_name(name: str) -> bool:
    """3 to 63 of a-z, 0-9 and '-', a letter or digit at both ends."""
    return _BUCKET.fullmatch(name) is not None


def check_bucket(name: str) -> None:
    """Raises 400 InvalidBucketName."""
    if not is_bucket_name(name):
        message = "The specified bucket is not valid."
        raise Refusal(400, "InvalidBucketName", message, fields={"BucketName": name})


def check_key(key: str) -> None:
    """Raises 400 InvalidObjectName for anything but 1 to 1023 bytes of UTF-8 that start with neither / nor \\."""
    try:
        length = len(key.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise invalid_name("The specified object name is not UTF-8.") from error
    if not 1 <= length <= MAX_KEY_BYTES or key[0] in "/\\":
        raise invalid_name(f"The specified object is not valid: 1 to {MAX_KEY_BYTES} bytes, not starting with / or \\.")


def invalid_name(message: str) -> Refusal:
    """400 InvalidObjectName."""
    return Refusal(400, "InvalidObjectName", message)
