"""Drives `ossfs`, the file system of fsspec, by its synchronous class."""

from typing import Any

import ossfs
from service import At, Facts, packed, serve, unpacked


def system_of(at: At) -> Any:
    """The file system as `at` describes it, with no list kept from before; it cannot do without a cache of lists."""
    given = {"endpoint": at["endpoint"], "key": at["id"], "secret": at["secret"], "token": at["token"]}
    return ossfs.OSSFileSystem(skip_instance_cache=True, **given)


def path_of(at: At, key: str) -> str:
    return f"{at['bucket']}/{key}"


def put(at: At, key: str, data: str) -> Facts:
    system_of(at).pipe_file(path_of(at, key), unpacked(data))
    return {}


def append(at: At, key: str, position: int, data: str) -> Facts:
    return {"next_position": system_of(at).append_object(path_of(at, key), position, unpacked(data))}


def write(at: At, key: str, mode: str, pieces: list[str], block: int | None = None) -> Facts:
    """By its file, which keeps the position itself, and sends what it has when it has a block."""
    with system_of(at).open(path_of(at, key), mode, block_size=block) as file:
        for piece in pieces:
            file.write(unpacked(piece))
    return {}


def read(at: At, key: str, offset: int, length: int) -> Facts:
    """By its file."""
    with system_of(at).open(path_of(at, key)) as file:
        file.seek(offset)
        return {"data": packed(file.read(length))}


def cat(at: At, key: str, first: int | None = None, last: int | None = None) -> Facts:
    return {"data": packed(system_of(at).cat_file(path_of(at, key), first, last))}


def info(at: At, key: str) -> Facts:
    facts = system_of(at).info(path_of(at, key))
    return {"length": facts["size"], "type": facts["type"]}


def ls(at: At, prefix: str) -> Facts:
    rows = system_of(at).ls(path_of(at, prefix), detail=True)
    return {"rows": sorted([row["name"], row["type"], row["size"]] for row in rows)}


def find(at: At, prefix: str) -> Facts:
    return {"names": system_of(at).find(path_of(at, prefix))}


def delete(at: At, key: str) -> Facts:
    system_of(at).rm_file(path_of(at, key))
    return {}


def explain(error: Exception) -> Facts | None:
    """The facts of the exception of oss2 that it came from."""
    cause = error.__cause__
    return {
        "error": type(error).__name__,
        "code": getattr(cause, "code", None),
        "status": getattr(cause, "status", None),
        "message": str(error),
    }


VERBS = (put, append, write, read, cat, info, ls, find, delete)

if __name__ == "__main__":
    serve({verb.__name__: verb for verb in VERBS}, explain)
