"""What a careful user of the `oss2` SDK writes today: ranged GETs in a loop, the CRC-64 kept along."""

import sys
from urllib.parse import urlsplit

import oss2
from oss2.utils import Crc64

WINDOW = 8 * 1024 * 1024


def main(url: str, path: str) -> None:
    parts = urlsplit(url)
    name, key = parts.path.lstrip("/").split("/", 1)
    bucket = oss2.Bucket(oss2.Auth("bench", "bench-secret"), f"http://{parts.netloc}", name, enable_crc=True)
    crc, offset = Crc64(), 0
    meta = bucket.head_object(key)
    with open(path, "wb") as file:
        while offset < meta.content_length:
            answer = bucket.get_object(key, byte_range=(offset, min(offset + WINDOW, meta.content_length) - 1))
            for chunk in answer:
                crc.update(chunk)
                file.write(chunk)
                offset += len(chunk)
    if crc.crc != int(meta.server_crc):
        sys.exit("the CRC-64 does not match")


if __name__ == "__main__":
    main(*sys.argv[1:])
