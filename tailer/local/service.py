"""What every operation needs beside its request: the store, turns for writers, who may do what."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import weakref
from typing import TYPE_CHECKING, TypeVar

from tailer.local import permissions, xml
from tailer.local.attributes import OVERRIDES
from tailer.local.refusal import Refusal
from tailer.local.uploads import Uploads

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from xml.etree.ElementTree import Element

    from tailer.local.call import Call
    from tailer.local.faults import History
    from tailer.local.keys import AccessKey
    from tailer.local.store import Store, Upload

_T = TypeVar("_T")
_HEAVY = 4 << 20
_BY_ACL = "You have no right to access this object because of bucket acl."


class Service:
    """One endpoint. `elsewhere` are buckets that another endpoint, which it names, serves."""

    def __init__(
        self,
        store: Store,
        history: History,
        *,
        region: str,
        clock: Callable[[], float],
        elsewhere: Mapping[str, str],
    ) -> None:
        self.store = store
        self.history = history
        self.uploads = Uploads()
        self.region = region
        self.clock = clock
        self.endpoint = ""
        self._elsewhere = elsewhere
        self._writing: weakref.WeakValueDictionary[tuple[str, str], asyncio.Lock] = weakref.WeakValueDictionary()

    def authorize(self, call: Call, operation: str, access: str) -> None:
        """Raises AccessDenied for a bucket of another region, and for what neither the key nor an ACL allows.

        `access` is ``read`` or ``write``, which an ACL may open to everybody, or ``owner``.
        """
        if call.bucket in self._elsewhere:
            message = (
                "The bucket you are attempting to access must be addressed using the specified endpoint. "
                "Please send all future requests to this endpoint."
            )
            fields = {"Bucket": call.bucket or "", "Endpoint": self._elsewhere[call.bucket or ""]}
            raise Refusal(403, "AccessDenied", message, fields=fields)
        if call.caller is None:
            self._authorize_anybody(call, access)
            return
        own, *further = permissions.needed(operation, call.query, call.headers)
        lacking = call.caller.lacks([own, *further])
        # The ACL opens the operation itself, not the source of a copy.
        if lacking == own and call.bucket and access != "owner" and access in _opened_by(self._acl(call)):
            lacking = call.caller.lacks(further)
        if lacking is not None:
            raise _denied(call, call.caller, lacking)

    def _authorize_anybody(self, call: Call, access: str) -> None:
        if call.bucket is None:
            raise Refusal(403, "AccessDenied", "Anonymous access is forbidden for this operation.")
        if access not in _opened_by(self._acl(call)):
            raise Refusal(403, "AccessDenied", _BY_ACL, ec="0003-00000001", fields={"Bucket": call.bucket})
        if call.query.keys() & OVERRIDES.keys():
            raise Refusal(400, "InvalidRequest", "An anonymous request can not override response headers.")

    def _acl(self, call: Call) -> str:
        bucket = self.store.bucket(call.bucket or "")
        info = self.store.find(bucket.name, call.key) if call.key else None
        return bucket.acl if info is None or info.acl == "default" else info.acl

    async def settle(self, call: Call) -> None:
        """Sum up a file that changed from outside without making other requests wait for it."""
        if call.key and self.store.engine.on_disk:
            try:
                backlog = self.store.backlog(*call.object)
            except Refusal:
                # The operation meets it again, and answers it.
                return
            if backlog > _HEAVY:
                await asyncio.to_thread(self.store.find, *call.object)

    async def receive(
        self, call: Call, upload: Upload, limit: int, *, always_digest: bool = False
    ) -> hashlib._Hash | None:
        """The body into `upload`, and its MD5 when one is wanted. Raises InvalidDigest."""
        claimed = call.headers.get("content-md5")
        digest = hashlib.md5(usedforsecurity=False) if claimed is not None or always_digest else None
        await call.body.spool(upload, limit, digest)
        if claimed is not None and digest is not None:
            check_digest(claimed, digest)
        return digest

    async def read_xml(self, call: Call, root: str) -> Element:
        """A small body that must be this element, with its Content-MD5 checked."""
        body = await call.body.read(xml.MAX_BYTES)
        claimed = call.headers.get("content-md5")
        if claimed is not None:
            check_digest(claimed, hashlib.md5(body, usedforsecurity=False))
        return xml.parse(body, root)

    async def commit(self, bucket: str, key: str, size: int, work: Callable[[], _T]) -> _T:
        """Do a write of `size` bytes; a slow one apart, while other writers of the key wait."""
        is_slow = self.store.engine.slow(size)
        if not is_slow and (bucket, key) not in self._writing:
            return work()
        lock = self._writing.setdefault((bucket, key), asyncio.Lock())
        async with lock:
            return await asyncio.to_thread(work) if is_slow else work()


def check_digest(claimed: str, digest: hashlib._Hash) -> None:
    try:
        wanted = base64.b64decode(claimed, validate=True)
    except binascii.Error:
        wanted = b""
    if wanted != digest.digest():
        message = "The Content-MD5 you specified was invalid."
        raise Refusal(400, "InvalidDigest", message, fields={"ContentMD5": claimed})


def _denied(call: Call, key: AccessKey, action: str) -> Refusal:
    """What a key without the permission is told (OSS documentation, EC 0003-00000001, -201 and -905)."""
    if call.bucket is None:
        message, ec = "You are forbidden to list buckets.", None
    elif action == permissions.TAGGING:
        message, ec = _BY_ACL, "0003-00000905"
    else:
        message, ec = _BY_ACL if call.key else "The bucket you access does not belong to you.", "0003-00000001"
    detail = [
        ("PolicyType", "AccountLevelIdentityBasedPolicy"),
        ("AuthPrincipalType", "SubUser"),
        ("AuthPrincipalDisplayName", key.id),
        ("NoPermissionType", "ImplicitDeny"),
        ("AuthAction", action),
    ]
    bucket = {} if call.bucket is None else {"Bucket": call.bucket}
    return Refusal(403, "AccessDenied", message, ec=ec, fields={"AccessDeniedDetail": detail, **bucket})


def _opened_by(acl: str) -> Sequence[str]:
    return {"public-read": ("read",), "public-read-write": ("read", "write")}.get(acl, ())
