"""Host and target to bucket and key."""

from __future__ import annotations

import pytest

from tailer.local.addressing import locate


@pytest.mark.parametrize(
    ("host", "target", "bucket", "key"),
    [
        ("127.0.0.1:80", "/", None, None),
        ("127.0.0.1:80", "/demo", "demo", None),
        ("127.0.0.1:80", "/demo/", "demo", None),
        ("127.0.0.1", "/demo/a/b.log", "demo", "a/b.log"),
        ("[::1]:80", "/demo/a", "demo", "a"),
        ("localhost:80", "/demo/a", "demo", "a"),
        ("", "/demo/a", "demo", "a"),
        ("oss", "/demo/a", "demo", "a"),
        ("demo.localhost:80", "/a/b", "demo", "a/b"),
        ("DEMO.localhost", "/", "demo", None),
        ("demo.oss-cn-local.example.com", "/a", "demo", "a"),
        ("files.example.org", "/a", "named", "a"),
        ("oss.corp.example", "/demo/a", "demo", "a"),
        ("demo.oss.corp.example:80", "/a", "demo", "a"),
        ("x_y.example.com", "/demo/a", "demo", "a"),
        ("127.0.0.1", "http://demo.localhost:80/a?x=1", "demo", "a"),
        ("127.0.0.1", "http://127.0.0.1:80/demo/a", "demo", "a"),
        ("127.0.0.1", "/demo//a", "demo", "/a"),
        ("127.0.0.1", "/demo/a//b", "demo", "a//b"),
        ("127.0.0.1", "/demo/../a", "demo", "../a"),
        ("127.0.0.1", "/demo/a/./b/..", "demo", "a/./b/.."),
        ("127.0.0.1", "/demo/a%2Fb%2F..", "demo", "a/b/.."),
        ("127.0.0.1", "/demo/a+b%20c%2B%25", "demo", "a+b c+%"),
        ("127.0.0.1", "/demo/a%0Ab", "demo", "a\nb"),
        ("127.0.0.1", "/demo/a%3Fb%23c", "demo", "a?b#c"),
        ("127.0.0.1", "/demo/%zz", "demo", "%zz"),
        ("127.0.0.1", "//a", "", "a"),
        ("127.0.0.1", "/demo/%FF", "demo", "\udcff"),
    ],
)
def test_all_styles(host: str, target: str, bucket: str | None, key: str | None) -> None:
    """Path style, virtual-hosted, CNAME, own domain; keys are taken as they stand."""
    found = locate(host, target, {"files.example.org": "named"}, ["oss.corp.example"])
    assert (found.bucket, found.key) == (bucket, key)


def test_query() -> None:
    """Decoded, in order, with empty values where there is none."""
    query = locate("", "/demo?append&position=0&prefix=a%2Bb+c&x=1=2&&=", {}, ()).query
    assert query == (("append", ""), ("position", "0"), ("prefix", "a+b c"), ("x", "1=2"), ("", ""))
