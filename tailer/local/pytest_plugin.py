"""The fixture ``oss_local``: an OSS-compatible server for one test.

Ask for it in the ``conftest.py`` at the top of your tests; nothing loads it unasked:

    pytest_plugins = ["tailer.local.pytest_plugin"]

Each test that names the fixture gets a server of its own, in a thread of its own, on a free port of loopback, with an
empty bucket: nothing is left over from another test, in this process or in those of pytest-xdist. While the test
runs, the variables that SDKs and tools read (``OSS_ENDPOINT`` and so on) lead to it.

    @pytest.mark.oss_local(append_limit=1000)    # options of tailer.local.LocalServer, where a test needs others
    def test_upload(oss_local): ...
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest

import tailer.local

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tailer.local.faults import Faults
    from tailer.local.keys import AccessKey
    from tailer.local.server import LocalServer

BUCKET = "test-bucket"


@dataclass(frozen=True, slots=True)
class OssLocal:
    """What a test sees of its server."""

    server: LocalServer
    bucket: str
    """An empty bucket, the first one if the mark names several."""

    _monkeypatch: pytest.MonkeyPatch = field(repr=False)

    @property
    def endpoint(self) -> str:
        """``http://127.0.0.1:PORT``."""
        return self.server.endpoint

    @property
    def region(self) -> str:
        """What signatures must name."""
        return self.server.region

    @property
    def access_key_id(self) -> str:
        """Of the key that may do everything."""
        return self.server.access_key_id

    @property
    def access_key_secret(self) -> str:
        """Of the key that may do everything."""
        return self.server.access_key_secret

    @property
    def faults(self) -> Faults:
        """What is to go wrong: ``oss_local.faults.add(Fault("status", status=503, count=2))``."""
        return self.server.faults

    def url(self, key: str) -> str:
        """``oss://BUCKET/KEY``, as oss-tail and oss-append take it."""
        return f"oss://{self.bucket}/{key}"

    def read(self, key: str) -> bytes:
        """All bytes of an object, as the server has them. Raises `Refusal` when it is missing."""
        return self.server.store.read(self.bucket, key)

    def add_key(self, *allow: str, temporary: bool = False, expires_in: float | None = None) -> AccessKey:
        """Make another key, with the permissions that `AccessKey` knows, or all.

        A temporary one has a token; with `expires_in` it is over so many seconds from now.
        """
        now = time.time()
        key = tailer.local.AccessKey(
            f"key-{secrets.token_hex(4)}",
            secrets.token_hex(16),
            secrets.token_hex(16) if temporary or expires_in is not None else None,
            None if expires_in is None else now + expires_in,
            allow or ("full",),
        )
        self.server.authenticator.keys[key.id] = key
        return key

    def expire(self, key: AccessKey) -> None:
        """Let a temporary key be over now. Raises ValueError for one without a token."""
        self.server.authenticator.keys[key.id] = replace(key, expires=0.0)

    def use(self, key: AccessKey) -> None:
        """Put this key into the environment for the rest of the test."""
        self._monkeypatch.delenv("OSS_SESSION_TOKEN", raising=False)
        for name, value in self.server.environment(key).items():
            self._monkeypatch.setenv(name, value)


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known, for ``--strict-markers``."""
    config.addinivalue_line("markers", "oss_local(**options): options of tailer.local.LocalServer for this test")


@pytest.fixture
def oss_local(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[OssLocal]:
    """An OSS-compatible server of this test's own; see `OssLocal`."""
    mark = request.node.get_closest_marker("oss_local")
    options = {} if mark is None else dict(mark.kwargs)
    buckets = list(options.pop("buckets", None) or [BUCKET])
    try:
        running = tailer.local.running
    except ImportError as error:
        pytest.fail(f"oss_local: {error}; python3 -m pip install 'oss-tail[local]'", pytrace=False)
    with running(buckets, **options) as server:
        found = OssLocal(server, buckets[0], monkeypatch)
        found.use(server.authenticator.keys[server.access_key_id])
        yield found
