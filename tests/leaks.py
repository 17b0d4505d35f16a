"""What must be nowhere in what a run leaves behind, and how it is looked for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "SecretThatNobodyMaySee"
TOKEN = "TokenThatNobodyMaySee"
PRESIGNED = f"x-oss-signature={'5' * 64}&x-oss-credential=key&security-token={TOKEN}"
WRONG = {"OSS_ACCESS_KEY_SECRET": SECRET, "OSS_SESSION_TOKEN": TOKEN}
"""Keys with which the service refuses: it then repeats what it would have signed."""

TRANSPORTS = ("direct", "fast", "httpx")
NOBODY = ("http://127.0.0.1:1", "https://127.0.0.1:1", "http://no-such-host.invalid")

# A V4 signature is 64 hexadecimal digits, a V1 signature the base64 of 20 bytes; neither is anything else's form here.
_SIGNED = re.compile(rb"OSS4-HMAC|Signature=|\b[0-9a-f]{64}\b|StringToSign")


def check(left: list[str | bytes], *secrets: str) -> None:
    """The secrets are nowhere in what was left, and no request is told so that it could be sent again."""
    for one in left:
        text = one.encode() if isinstance(one, str) else one
        assert not _SIGNED.search(text)
        assert not [secret for secret in (SECRET, TOKEN, *secrets) if secret.encode() in text]


def files_below(folder: Path) -> list[str | bytes]:
    """What stands in the files of a folder."""
    return [path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()]
