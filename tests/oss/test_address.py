"""Addresses, patterns and endpoints: what is taken, what is refused, and in which words."""

from __future__ import annotations

import fnmatch
import re
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tailer.core.position import ObjectRef
from tailer.errors import AddressError, ConfigError
from tailer.oss.address import (
    Endpoint,
    check_key,
    checked_region,
    glob_regex,
    literal_prefix,
    parse_address,
)


@pytest.mark.parametrize(
    ("text", "bucket", "key"),
    [
        ("oss://bucket/app.log", "bucket", "app.log"),
        ("OSS://bucket/app.log", "bucket", "app.log"),
        ("oss://bucket/a//b", "bucket", "a//b"),
        ("oss://bucket/a%20b+c d", "bucket", "a%20b+c d"),
        ("oss://bucket/a#b", "bucket", "a#b"),
        ("oss://bucket/line\nbreak", "bucket", "line\nbreak"),
        ("oss://bucket/日志.log", "bucket", "日志.log"),
        ("oss://a-1/...", "a-1", "..."),
        ("oss://bucket/" + "k" * 1023, "bucket", "k" * 1023),
    ],
)
def test_an_object(text, bucket, key):
    """The key is taken as it is written."""
    address = parse_address(text)
    assert address.ref == ObjectRef(bucket, key)
    assert (address.pattern, address.prefix, address.presigned, address.url) == (False, False, False, None)


@pytest.mark.parametrize(
    ("text", "pattern", "prefix"),
    [
        ("oss://bucket/logs/*.log", True, False),
        ("oss://bucket/log?", True, False),
        ("oss://bucket/log[12]", True, False),
        ("oss://bucket/**/x", True, False),
        ("oss://bucket/*/", True, False),
        ("oss://bucket/logs/", False, True),
        ("oss://bucket/", False, True),
    ],
)
def test_patterns_and_prefixes(text, pattern, prefix):
    """With glob they stand for many objects, without it for one."""
    address = parse_address(text)
    assert (address.pattern, address.prefix) == (pattern, prefix)
    if address.ref.key:
        literal = parse_address(text, glob=False)
        assert (literal.pattern, literal.prefix) == (False, False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("app.log", "write oss://bucket/key"),
        ("", "write oss://bucket/key"),
        ("s3://bucket/key", "s3:// is not a scheme of OSS"),
        ("file:///etc/passwd", "not a scheme of OSS"),
        ("oss://", "names no bucket"),
        ("oss:///key", "names no bucket"),
        ("oss://bucket", "names a bucket and no object"),
        ("oss://Bucket/key", "not a bucket's name"),
        ("oss://bu/key", "not a bucket's name"),
        ("oss://-bucket/key", "not a bucket's name"),
        ("oss://buck_et/key", "not a bucket's name"),
        ("oss://" + "b" * 64 + "/key", "not a bucket's name"),
        ("oss://bucket.oss-cn-hangzhou.aliyuncs.com/key", "not a bucket's name"),
        ("oss://bucket//key", "starts with '/'"),
        ("oss://bucket/\\key", "starts with"),
        ("oss://bucket/" + "é" * 512, "1024 bytes: the limit is 1023"),
        ("oss://bucket/a/../b", "another object"),
        ("oss://bucket/./b", "another object"),
        ("oss://bucket/..", "another object"),
        ("oss://bucket/\udcff", "not UTF-8"),
        ("https://host", "names a host and no object"),
        ("https://host/", "names a host and no object"),
        ("https:///key", "names no host"),
        ("https://ho st/key", "names no host"),
        ("https://host:0/key", "names no host"),
        ("https://host:99999/key", "names no host"),
        ("https://[::1/key", "is not a URL"),
        ("https://user:VerySecret@host/key", "user name or password"),
        ("ftp://user:VerySecret@host/key", "ftp:// is not a scheme"),
        ("https://host/key#part", "%23"),
        ("https://host/a/%2e%2E/b?sig=VerySecret", "another object"),
        ("https://host/a/../b", "another object"),
        ("https://host/%FF", "not UTF-8"),
        ("https://host/a\nb", "%0A"),
        ("https://host/%2Fkey", "starts with '/'"),
    ],
)
def test_what_is_refused(text, words):
    """One line that says what is wrong, without anything that could be a secret."""
    with pytest.raises(AddressError, match=re.escape(words)) as caught:
        parse_address(text)
    assert "\n" not in str(caught.value)
    assert "VerySecret" not in str(caught.value)


def test_a_bucket_alone_without_glob():
    """Nothing stands for all objects then."""
    with pytest.raises(AddressError, match="no object"):
        parse_address("oss://bucket/", glob=False)


@pytest.mark.parametrize(
    ("text", "ref", "url"),
    [
        ("https://host/a%20b", ObjectRef("host", "a b", "https"), "https://host/a%20b"),
        ("HTTP://Host:8080/a//b", ObjectRef("host:8080", "a//b", "http"), "http://host:8080/a//b"),
        ("https://host/a+b", ObjectRef("host", "a+b", "https"), "https://host/a%2Bb"),
        ("https://host/a\\b", ObjectRef("host", "a\\b", "https"), "https://host/a%5Cb"),
        ("https://[::1]:9/k", ObjectRef("[::1]:9", "k", "https"), "https://[::1]:9/k"),
        ("https://host/k?a=b c&é", ObjectRef("host", "k", "https"), "https://host/k?a=b%20c&%C3%A9"),
        ("https://host/k?x=%2B%2f", ObjectRef("host", "k", "https"), "https://host/k?x=%2B%2f"),
        ("https://host/*.log", ObjectRef("host", "*.log", "https"), "https://host/%2A.log"),
    ],
)
def test_urls(text, ref, url):
    """The path is decoded into a key and encoded again; the query stays as it is. A URL is never a pattern."""
    address = parse_address(text)
    assert (address.ref, address.url) == (ref, url)
    assert not address.pattern


@pytest.mark.parametrize(
    ("query", "presigned"),
    [
        ("x-oss-signature-version=OSS4-HMAC-SHA256&x-oss-signature=abc", True),
        ("OSSAccessKeyId=a&Expires=1&Signature=b", True),
        ("versionId=1", False),
        ("x-oss-signature-version=1", False),
        ("", False),
    ],
)
def test_presigned(query, presigned):
    """Known by the signature in the query."""
    assert parse_address(f"https://host/key?{query}").presigned is presigned


def test_the_query_of_a_url_is_not_shown():
    """Neither by repr nor by str."""
    address = parse_address("https://host/key?Signature=VerySecret")
    assert "VerySecret" not in repr(address) + str(address)
    assert repr(parse_address("oss://bucket/a*")) == "<pattern oss://bucket/a*>"


@given(st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40))
@example("a/b/%2e%2e")
def test_a_key_survives_being_written_as_an_address(key):
    """Every key that is taken comes back as it was, from both forms."""
    try:
        check_key(key)
    except AddressError:
        return
    assert parse_address(f"oss://bucket/{key}", glob=False).ref.key == key
    url = Endpoint.parse("https://host", "cname").url("bucket", key)
    assert url.isascii()
    assert parse_address(url).ref.key == key


@given(st.text(max_size=60), st.sampled_from(["", "oss://", "oss://bucket/", "https://", "https://host/"]))
def test_no_text_does_more_than_be_refused(text, start):
    """An address or an AddressError of one line, whatever is typed."""
    try:
        shown = parse_address(start + text).ref.bucket
    except AddressError as error:
        shown = str(error)
    assert shown
    assert "\n" not in shown


# --- patterns


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("logs/*.log", ["logs/a.log", "logs/.log"], ["logs/x/a.log", "logs/a.logs", "a.log"]),
        ("log?", ["log1"], ["log", "log/", "log12"]),
        ("log[12]", ["log1", "log2"], ["log3", "log"]),
        ("log[!12]", ["log3"], ["log1", "log/"]),
        ("log[^12]", ["log3"], ["log1"]),
        ("log[a-c]x", ["logbx"], ["logdx", "log-x"]),
        ("log[]x]", ["log]", "logx"], ["log["]),
        ("log[", ["log["], ["log"]),
        ("log[a", ["log[a"], ["loga"]),
        ("log[.-0]x", ["log.x", "log0x"], ["log/x"]),
        ("**", ["a", "a/b/c"], []),
        ("**/app.log", ["app.log", "a/app.log", "a/b/app.log"], ["xapp.log", "a/xapp.log"]),
        ("a/**/z", ["a/z", "a/b/z", "a/b/c/z"], ["az", "a/bz"]),
        ("a/**", ["a/b", "a/b/c"], ["a", "ab"]),
        ("a**z", ["az", "a/b/z"], ["b"]),
        ("a*/*/c", ["a1/b/c", "a//c"], ["a/c", "a1/b/d/c"]),
        ("*a*b*", ["xaxbx", "ab"], ["ba", "a/b"]),
        ("a.b+c(d)", ["a.b+c(d)"], ["aXb+c(d)"]),
        ("[*]", ["*"], ["a"]),
        ("*\n", ["x\n"], ["x"]),
        ("日*", ["日志"], ["志"]),
    ],
)
def test_patterns(pattern, matching, others):
    """``*``, ``?`` and ``[…]`` inside one segment, ``**`` across segments."""
    regex = glob_regex(pattern)
    assert [key for key in matching if not regex.fullmatch(key)] == []
    assert [key for key in others if regex.fullmatch(key)] == []
    assert all(key.startswith(literal_prefix(pattern)) for key in matching)


@given(st.text("ab*?[]!-", max_size=12), st.text("ab[]!-*", max_size=8))
def test_within_a_segment_a_pattern_means_what_the_shell_means(pattern, name):
    """fnmatch is the oracle, where there is no slash and no ``**``."""
    if "**" not in pattern:
        assert bool(glob_regex(pattern).fullmatch(name)) == fnmatch.fnmatchcase(name, pattern)


def test_many_stars_take_no_time():
    """A pattern cannot make the client hang."""
    started = time.perf_counter()
    assert not glob_regex("*a" * 20 + "*b").fullmatch("a" * 1000)
    assert time.perf_counter() - started < 1


# --- endpoints


@pytest.mark.parametrize(
    ("text", "addressing", "url"),
    [
        ("oss-cn-hangzhou.aliyuncs.com", "virtual", "https://bucket.oss-cn-hangzhou.aliyuncs.com/a%20b"),
        (
            "http://oss-cn-hangzhou-internal.aliyuncs.com/",
            "virtual",
            "http://bucket.oss-cn-hangzhou-internal.aliyuncs.com/a%20b",
        ),
        ("http://127.0.0.1:9000", "path", "http://127.0.0.1:9000/bucket/a%20b"),
        ("localhost", "path", "https://localhost/bucket/a%20b"),
        ("http://[::1]:9000", "path", "http://[::1]:9000/bucket/a%20b"),
        ("OSS.Example.com:8443", "virtual", "https://bucket.oss.example.com:8443/a%20b"),
    ],
)
def test_where_requests_go(text, addressing, url):
    """Virtual-hosted by default, path style where no bucket can stand before the host."""
    endpoint = Endpoint.parse(text)
    assert endpoint.addressing == addressing
    assert endpoint.url("bucket", "a b") == url


def test_addressing_can_be_chosen():
    """CNAME: the bucket is nowhere in the URL."""
    assert Endpoint.parse("https://logs.example.com", "cname").url("bucket", "k") == "https://logs.example.com/k"
    assert Endpoint.parse("https://oss.example.com", "path").url("bucket", "k") == "https://oss.example.com/bucket/k"
    assert Endpoint.parse("http://127.0.0.1", "cname").url("bucket", "k", "a=b") == "http://127.0.0.1/k?a=b"
    assert Endpoint.parse("http://127.0.0.1").url("bucket", None) == "http://127.0.0.1/bucket/"


@pytest.mark.parametrize(
    ("text", "region"),
    [
        ("oss-cn-hangzhou.aliyuncs.com", "cn-hangzhou"),
        ("oss-cn-hangzhou-internal.aliyuncs.com", "cn-hangzhou"),
        ("cn-beijing.oss.aliyuncs.com", "cn-beijing"),
        ("oss-accelerate.aliyuncs.com", None),
        ("oss-accelerate-overseas.aliyuncs.com", None),
        ("oss.example.com", None),
        ("127.0.0.1:80", None),
    ],
)
def test_the_region_of_an_endpoint(text, region):
    """Read off the names that Alibaba Cloud gives."""
    assert Endpoint.parse(text).region == region


def test_the_endpoint_of_a_region():
    """Public and https."""
    assert str(Endpoint.for_region("cn-hangzhou")) == "https://oss-cn-hangzhou.aliyuncs.com"
    assert Endpoint.for_region(" CN-Hangzhou ").region == "cn-hangzhou"


@pytest.mark.parametrize("text", ["127.0.0.1:1", "localhost", "[::1]", "127.9.9.9"])
def test_loopback(text):
    """This very machine."""
    assert Endpoint.parse(text).loopback
    assert not Endpoint.parse("10.0.0.1").loopback


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "ftp://host",
        "http://",
        "http://host/path",
        "host?x",
        "a b",
        "host:0",
        "host:x",
        "[::1",
        "-a.com",
        "u:p@host",
    ],
)
def test_endpoints_that_are_refused(text):
    """ConfigError in one line."""
    with pytest.raises(ConfigError, match="endpoint") as caught:
        Endpoint.parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["https://u:VerySecret@host:1", "u:VerySecret@host", "ftp://u:Very/Secret@host"])
def test_an_endpoint_with_a_password_is_refused_without_showing_it(text):
    with pytest.raises(ConfigError, match="user name or password") as caught:
        Endpoint.parse(text)
    assert "Very" not in str(caught.value)


def test_an_endpoint_that_holds_the_bucket():
    """It would stand twice in the host."""
    with pytest.raises(ConfigError, match=r"give oss-cn-hangzhou\.aliyuncs\.com alone"):
        Endpoint.parse("https://bucket.oss-cn-hangzhou.aliyuncs.com")


@pytest.mark.parametrize("text", ["", "cn hangzhou", "cn-hangzhou.aliyuncs.com", "-a", "oss-cn-hangzhou", "é"])
def test_regions_that_are_refused(text):
    """ConfigError in one line."""
    with pytest.raises(ConfigError):
        checked_region(text)
