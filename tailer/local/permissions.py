"""What an access key may do: the actions that an operation needs, and the actions that a key has.

Actions are those of RAM, such as ``oss:PutObject`` (OSS documentation, "RAM policies" and the page of each
operation). They are not bound to buckets or keys of objects here.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

GRANTS: Mapping[str, Sequence[str]] = {
    "full": ("oss:*",),
    "read-only": ("oss:Get*", "oss:List*"),
    "append-only": ("oss:PutObject",),
}
"""Names for actions: the system policies AliyunOSSFullAccess and AliyunOSSReadOnlyAccess, and what a writer needs."""

ACTIONS: Mapping[str, str] = {
    **{
        name: f"oss:{name}"
        for name in (
            "ListBuckets", "PutBucket", "DeleteBucket", "PutBucketAcl", "GetBucketAcl", "GetBucketLocation",
            "GetBucketInfo", "GetBucketStat", "PutBucketVersioning", "GetBucketVersioning", "ListObjects",
            "ListObjectVersions", "ListMultipartUploads", "ListParts", "AbortMultipartUpload", "PutObject", "GetObject",
            "DeleteObject", "SealAppendObject", "PutObjectTagging", "GetObjectTagging", "DeleteObjectTagging",
        )
    },
    **dict.fromkeys(("AppendObject", "CopyObject", "InitiateMultipartUpload", "UploadPart"), "oss:PutObject"),
    **dict.fromkeys(("UploadPartCopy", "CompleteMultipartUpload"), "oss:PutObject"),
    **dict.fromkeys(("HeadObject", "GetObjectMeta"), "oss:GetObject"),
    "HeadBucket": "oss:GetBucketInfo",
    "ListObjectsV2": "oss:ListObjects",
    "DeleteMultipleObjects": "oss:DeleteObject",
    "PutObjectACL": "oss:PutObjectAcl",
    "GetObjectACL": "oss:GetObjectAcl",
}  # fmt: skip
"""The action of each operation."""

TAGGING = "oss:PutObjectTagging"

_OF_A_VERSION = {
    f"oss:{verb}Object{what}": f"oss:{verb}ObjectVersion{what}"
    for verb, what in (
        ("Get", ""),
        ("Delete", ""),
        ("Put", "Acl"),
        ("Get", "Acl"),
        ("Put", "Tagging"),
        ("Get", "Tagging"),
        ("Delete", "Tagging"),
    )
}
_KNOWN = frozenset({*ACTIONS.values(), *_OF_A_VERSION.values()})


def actions_of(words: Iterable[str]) -> tuple[str, ...]:
    """Grants (`GRANTS`) and actions, with ``*`` and ``?`` in them, as actions alone.

    Raises ValueError for a word that allows nothing that this server knows.
    """
    found: list[str] = []
    for word in words:
        actions = GRANTS.get(word, (word,))
        if not any(fnmatchcase(known, action) for action in actions for known in _KNOWN):
            raise ValueError(f"unknown permission: {word!r} (there are {', '.join(GRANTS)} and actions of RAM)")
        found.extend(actions)
    return tuple(found)


def needed(operation: str, query: Mapping[str, str], headers: Mapping[str, str]) -> list[str]:
    """The actions that a request needs, the operation's own first. Header names are lower case."""
    action = ACTIONS.get(operation, f"oss:{operation}")
    actions = [_OF_A_VERSION.get(action, action) if "versionId" in query else action]
    source = headers.get("x-oss-copy-source")
    if source is not None:
        versioned = "versionId" in parse_qs(source.partition("?")[2], keep_blank_values=True)
        actions.append("oss:GetObjectVersion" if versioned else "oss:GetObject")
    if "x-oss-tagging" in headers and action == "oss:PutObject":
        actions.append(TAGGING)
    return actions


@lru_cache(maxsize=1024)
def permits(allowed: Sequence[str], action: str) -> bool:
    """Whether an action is among those that are allowed."""
    return any(fnmatchcase(action, pattern) for pattern in allowed)
