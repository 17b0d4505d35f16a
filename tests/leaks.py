"""What must be nowhere in what a run leaves behind, and how it is looked for."""

from __future__ import annotations

import re
import traceback
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


def shown(error: BaseException) -> list[str | bytes]:
    """All that may be printed of an error: itself, its causes, their tracebacks with every frame's local variables.

    The frames of the tests themselves are left out.
    """
    text: list[str | bytes] = ["".join(traceback.format_exception(error)), repr(error), repr(vars(error))]
    while (cause := error.__cause__ or (None if error.__suppress_context__ else error.__context__)) is not None:
        text += _variables(error)
        error = cause
        text += [repr(error), repr(vars(error))]
    return text + _variables(error)


def _variables(error: BaseException) -> list[str | bytes]:
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    ours = [frame for frame in frames if "/tests/" not in frame.f_code.co_filename]
    return [_safe(value) for frame in ours for value in frame.f_locals.values()]


def _safe(value: object) -> str:
    try:
        return repr(value)
    except Exception as error:  # a library's object that cannot be shown any more
        return f"<{type(error).__name__}>"


def files_below(folder: Path) -> list[str | bytes]:
    """What stands in the files of a folder."""
    return [path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()]
