"""Drives `alibabacloud-oss-v2`, the second official SDK for Python; with --async by its asynchronous client."""

import asyncio
import datetime
import sys
import tempfile
from pathlib import Path
from typing import Any

import alibabacloud_oss_v2 as oss
import alibabacloud_oss_v2.aio
from alibabacloud_oss_v2.exceptions import OperationError
from service import At, Facts, number, packed, serve, unpacked

_loop = asyncio.new_event_loop()


class Awaited:
    """The asynchronous client, each call of which is awaited at once."""

    def __init__(self, config: oss.config.Config) -> None:
        self._client = alibabacloud_oss_v2.aio.AsyncClient(config)

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)
        return lambda *arguments, **options: _loop.run_until_complete(call(*arguments, **options))


_is_async = "--async" in sys.argv
_clients: dict[tuple[tuple[str, str | None], ...], Any] = {}


def client_of(at: At) -> Any:
    """The client as `at` describes it; kept, so that connections are used again."""
    name = tuple(sorted(at.items()))
    if name not in _clients:
        config = oss.config.load_default()
        config.credentials_provider = oss.credentials.StaticCredentialsProvider(at["id"], at["secret"], at["token"])
        config.region = at["region"]
        config.endpoint = at["endpoint"]
        config.signature_version = at["signature"]
        config.use_cname = at["addressing"] == "cname"
        config.retry_max_attempts = 2  # with 1, its download to a file does not even try once
        _clients[name] = Awaited(config) if _is_async else oss.Client(config)
    return _clients[name]


def put(at: At, key: str, data: str) -> Facts:
    result = client_of(at).put_object(oss.PutObjectRequest(at["bucket"], key, body=unpacked(data)))
    return {"status": result.status_code, "crc64": number(result.hash_crc64), "etag": _bare(result.etag)}


def append(at: At, key: str, position: int, data: str, init_crc: int | None = None) -> Facts:
    request = oss.AppendObjectRequest(at["bucket"], key, position=position, body=unpacked(data))
    result = client_of(at).append_object(request)
    return {
        "status": result.status_code,
        "next_position": result.next_position,
        "crc64": number(result.hash_crc64),
        "etag": _bare(result.headers.get("ETag")),
    }


def append_file(at: At, key: str, pieces: list[str]) -> Facts:
    """By the file-like object of the SDK, which keeps the position itself."""
    with client_of(at).append_file(at["bucket"], key) as file:
        for piece in pieces:
            file.write(unpacked(piece))
        return {"position": file.tell()}


def read_file(at: At, key: str, offset: int, length: int) -> Facts:
    """By the file-like object of the SDK."""
    with client_of(at).open_file(at["bucket"], key) as file:
        file.seek(offset)
        return {"data": packed(file.read(length))}


def head(at: At, key: str) -> Facts:
    result = client_of(at).head_object(oss.HeadObjectRequest(at["bucket"], key))
    return {
        "length": result.content_length,
        "type": result.object_type,
        "crc64": number(result.hash_crc64),
        "next_position": result.next_append_position,
        "etag": _bare(result.etag),
        "sealed_time": result.sealed_time and str(result.sealed_time),
    }


def meta(at: At, key: str) -> Facts:
    result = client_of(at).get_object_meta(oss.GetObjectMetaRequest(at["bucket"], key))
    return {"length": result.content_length, "etag": _bare(result.etag)}


def get(at: At, key: str, first: int | None = None, last: int | None = None, standard: bool = False) -> Facts:
    wanted = None
    if first is not None or last is not None:
        wanted = f"bytes={'' if first is None else first}-{'' if last is None else last}"
    request = oss.GetObjectRequest(
        at["bucket"], key, range_header=wanted, range_behavior="standard" if standard else None
    )
    result = client_of(at).get_object(request)
    return {
        "status": result.status_code,
        "data": packed(_loop.run_until_complete(result.body.read()) if _is_async else _whole(result.body)),
        "content_range": result.content_range,
        "crc64": number(result.hash_crc64),
    }


def _whole(body: Any) -> bytes:
    with body:
        data: bytes = body.read()
        return data


def download(at: At, key: str) -> Facts:
    """Into a file, for which the asynchronous client has nothing of its own but a stream."""
    if _is_async:
        result = client_of(at).get_object_as_stream(oss.GetObjectRequest(at["bucket"], key))
        return {"data": packed(_loop.run_until_complete(_streamed(result.body)))}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "copy")
        client_of(at).get_object_to_file(oss.GetObjectRequest(at["bucket"], key), str(path))
        return {"data": packed(path.read_bytes())}


async def _streamed(body: Any) -> bytes:
    async with body:
        return b"".join([chunk async for chunk in await body.iter_bytes()])


def list_v1(at: At, prefix: str, delimiter: str = "", limit: int = 100, after: str = "") -> Facts:
    request = oss.ListObjectsRequest(
        at["bucket"], prefix=prefix, delimiter=delimiter or None, max_keys=limit, marker=after or None
    )
    result = client_of(at).list_objects(request)
    return _listed(result, result.next_marker)


def list_v2(at: At, prefix: str, delimiter: str = "", limit: int = 100, after: str = "") -> Facts:
    request = oss.ListObjectsV2Request(
        at["bucket"], prefix=prefix, delimiter=delimiter or None, max_keys=limit, continuation_token=after or None
    )
    result = client_of(at).list_objects_v2(request)
    return _listed(result, result.next_continuation_token)


def _listed(result: Any, following: str) -> Facts:
    return {
        "rows": [[row.key, row.size, row.object_type] for row in result.contents or ()],
        "prefixes": [row.prefix for row in result.common_prefixes or ()],
        "next": following if result.is_truncated else None,
    }


def presign(at: At, key: str, seconds: int, standard: bool = False) -> Facts:
    request = oss.GetObjectRequest(at["bucket"], key, range_behavior="standard" if standard else None)
    result = client_of(at).presign(request, expires=datetime.timedelta(seconds=seconds))
    return {"url": result.url, "signed_headers": dict(result.signed_headers or {})}


def seal(at: At, key: str, position: int) -> Facts:
    result = client_of(at).seal_append_object(oss.SealAppendObjectRequest(at["bucket"], key, position=position))
    return {"status": result.status_code, "sealed_time": result.sealed_time}


def delete(at: At, key: str) -> Facts:
    return {"status": client_of(at).delete_object(oss.DeleteObjectRequest(at["bucket"], key)).status_code}


def _bare(etag: str | None) -> str | None:
    return etag and etag.strip('"')


def explain(error: Exception) -> Facts | None:
    """The facts of a refusal."""
    if not isinstance(error, OperationError):
        return None
    cause = error.unwrap()
    headers = getattr(cause, "headers", None) or {}
    return {
        "error": getattr(cause, "code", None) or type(cause).__name__,
        "status": getattr(cause, "status_code", None),
        "message": getattr(cause, "message", None) or str(cause),
        "request_id": getattr(cause, "request_id", None),
        "next_position": number(headers.get("x-oss-next-append-position")),
    }


VERBS = (
    put,
    append,
    append_file,
    read_file,
    head,
    meta,
    get,
    download,
    list_v1,
    list_v2,
    presign,
    seal,
    delete,
)

if __name__ == "__main__":
    serve({verb.__name__: verb for verb in VERBS}, explain)
