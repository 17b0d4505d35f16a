"""Drives `oss2`, the first official SDK for Python, which needs the original `crcmod` and so its own environment."""

import logging
import tempfile
from pathlib import Path
from typing import Any

import oss2
from oss2.exceptions import OssError, PositionNotEqualToLength
from service import At, Facts, number, packed, serve, unpacked

_buckets: dict[tuple[tuple[str, str | None], ...], oss2.Bucket] = {}


def bucket_of(at: At) -> oss2.Bucket:
    """The bucket as `at` addresses it; kept, so that connections are used again."""
    name = tuple(sorted(at.items()))
    if name not in _buckets:
        kinds = {"v1": oss2.Auth, "v4": oss2.AuthV4}
        if at["token"] is None:
            auth = kinds[at["signature"]](at["id"], at["secret"])
        else:
            auth = oss2.StsAuth(at["id"], at["secret"], at["token"], auth_version=at["signature"])
        _buckets[name] = oss2.Bucket(
            auth,
            at["endpoint"],
            at["bucket"],
            region=at["region"],
            is_cname=at["addressing"] == "cname",
            enable_crc=True,
        )
    return _buckets[name]


def put(at: At, key: str, data: str) -> Facts:
    result = bucket_of(at).put_object(key, unpacked(data))
    return {"status": result.status, "crc64": result.crc, "etag": result.etag}


def append(at: At, key: str, position: int, data: str, init_crc: int | None = None) -> Facts:
    result = bucket_of(at).append_object(key, position, unpacked(data), init_crc=init_crc)
    return {"status": result.status, "next_position": result.next_position, "crc64": result.crc, "etag": result.etag}


def head(at: At, key: str) -> Facts:
    result = bucket_of(at).head_object(key)
    return {
        "length": result.content_length,
        "type": result.object_type,
        "crc64": result.server_crc,
        "next_position": number(result.headers.get("x-oss-next-append-position")),
        "etag": result.etag,
    }


def meta(at: At, key: str) -> Facts:
    result = bucket_of(at).get_object_meta(key)
    return {"length": result.content_length, "etag": result.etag}


def get(at: At, key: str, first: int | None = None, last: int | None = None, standard: bool = False) -> Facts:
    byte_range = None if first is None and last is None else (first, last)
    headers = {"x-oss-range-behavior": "standard"} if standard else None
    result = bucket_of(at).get_object(key, byte_range=byte_range, headers=headers)
    data = result.read()
    return {
        "status": result.status,
        "data": packed(data),
        "content_range": result.content_range,
        "crc64": result.server_crc,
    }


def download(at: At, key: str) -> Facts:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "copy")
        bucket_of(at).get_object_to_file(key, str(path))
        return {"data": packed(path.read_bytes())}


def list_v1(at: At, prefix: str, delimiter: str = "", limit: int = 100, after: str = "") -> Facts:
    result = bucket_of(at).list_objects(prefix=prefix, delimiter=delimiter, max_keys=limit, marker=after)
    return _listed(result, result.next_marker)


def list_v2(at: At, prefix: str, delimiter: str = "", limit: int = 100, after: str = "") -> Facts:
    result = bucket_of(at).list_objects_v2(prefix=prefix, delimiter=delimiter, max_keys=limit, continuation_token=after)
    return _listed(result, result.next_continuation_token)


def _listed(result: Any, following: str) -> Facts:
    return {
        "rows": [[row.key, row.size, row.type] for row in result.object_list],
        "prefixes": result.prefix_list,
        "next": following if result.is_truncated else None,
    }


def presign(at: At, key: str, seconds: int) -> Facts:
    return {"url": bucket_of(at).sign_url("GET", key, seconds, slash_safe=True)}


def delete(at: At, key: str) -> Facts:
    return {"status": bucket_of(at).delete_object(key).status}


def explain(error: Exception) -> Facts | None:
    """The facts of a refusal."""
    if not isinstance(error, OssError):
        return None
    next_position = error.next_position if isinstance(error, PositionNotEqualToLength) else None
    return {
        "error": error.code or type(error).__name__,
        "status": error.status,
        "message": error.message or str(error),
        "request_id": error.request_id,
        "next_position": next_position,
    }


VERBS = (put, append, head, meta, get, download, list_v1, list_v2, presign, delete)

if __name__ == "__main__":
    logging.getLogger("oss2").addHandler(logging.NullHandler())
    serve({verb.__name__: verb for verb in VERBS}, explain)
