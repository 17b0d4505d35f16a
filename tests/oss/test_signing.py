"""Signatures: the published vectors, and the official SDK's signer as the oracle on random requests."""

from __future__ import annotations

import datetime
from urllib.parse import parse_qsl, urlsplit

import pytest
from alibabacloud_oss_v2 import credentials as sdk_credentials
from alibabacloud_oss_v2.signer.v1 import SignerV1
from alibabacloud_oss_v2.signer.v4 import SignerV4
from alibabacloud_oss_v2.types import HttpRequest, SigningContext
from hypothesis import given
from hypothesis import strategies as st

from tailer.oss.credentials import Credentials
from tailer.oss.signing import (
    Request,
    encode_path,
    encode_query,
    http_date,
    presign_v1,
    presign_v4,
    sign_v1,
    sign_v4,
)

KEYS = Credentials("ak", "sk")
TOKEN = Credentials("ak", "sk", "token")
QUERY = (
    ("param1", "value1"),
    ("+param1", "value3"),
    ("|param1", "value4"),
    ("+param2", ""),
    ("|param2", ""),
    ("param2", ""),
)


def published(content_type="text/plain"):
    headers = {"x-oss-head1": "value", "abc": "value", "zabc": "value", "xyz": "value", "content-type": content_type}
    return Request("PUT", "bucket", "1234+-/123/1.txt", QUERY, headers)


# --- the published vectors


def test_v4_header():
    """Scope, signature and the two headers that a V4 request must have."""
    added = sign_v4(published(), KEYS, region="cn-hangzhou", now=1702743657)
    assert added == {
        "x-oss-date": "20231216T162057Z",
        "x-oss-content-sha256": "UNSIGNED-PAYLOAD",
        "authorization": "OSS4-HMAC-SHA256 Credential=ak/20231216/cn-hangzhou/oss/aliyun_v4_request,"
        "Signature=e21d18daa82167720f9b1047ae7e7f1ce7cb77a31e8203a7d5f4624fa0284afe",
    }


def test_v4_header_with_a_token():
    """The token is a signed header of its own."""
    added = sign_v4(published(), TOKEN, region="cn-hangzhou", now=1702784856)
    assert added["x-oss-security-token"] == "token"
    assert added["authorization"].endswith("b94a3f999cf85bcdc00d332fbd3734ba03e48382c36fa4d5af5df817395bd9ea")


def test_v4_header_with_additional_headers():
    """They are listed in lower case, sorted, and signed."""
    added = sign_v4(published(), KEYS, region="cn-hangzhou", now=1702747512, additional=["ZAbc", "abc", "missing"])
    assert added["authorization"].endswith(
        "AdditionalHeaders=abc;zabc,Signature=4a4183c187c07c8947db7620deb0a6b38d9fbdd34187b6dbaccb316fa251212f"
    )


@pytest.mark.parametrize(
    ("credentials", "now", "signature"),
    [
        (KEYS, 1702781677, "a39966c61718be0d5b14e668088b3fa07601033f6518ac7b523100014269c0fe"),
        (TOKEN, 1702785388, "3817ac9d206cd6dfc90f1c09c00be45005602e55898f26f5ddb06d7892e1f8b5"),
    ],
)
def test_v4_presigned(credentials, now, signature):
    """The whole query, its signature last."""
    request = published("application/octet-stream")
    query = presign_v4(request, credentials, region="cn-hangzhou", now=now, expires=599)
    assert query[: len(QUERY)] == QUERY
    assert query[-1] == ("x-oss-signature", signature)
    assert dict(query)["x-oss-expires"] == "599"


def test_v1_header():
    """x-oss-date, where it is sent, stands in the place of the date."""
    headers = {
        "content-md5": "eB5eJF1ptWaXm4bijSPyxw==",
        "content-type": "text/html",
        "x-oss-date": "Wed, 28 Dec 2022 10:27:41 GMT",
        "x-oss-meta-author": "alice",
        "x-oss-meta-magic": "abracadabra",
    }
    added = sign_v1(Request("PUT", "examplebucket", "nelson", (), headers), KEYS, now=1702784856)
    assert added == {
        "date": "Sun, 17 Dec 2023 03:47:36 GMT",
        "authorization": "OSS ak:kSHKmLxlyEAKtZPkJhG9bZb5k7M=",
    }


@pytest.mark.parametrize(
    ("key", "credentials", "expires_at", "signature"),
    [
        ("key", KEYS, 1699807420, "dcLTea+Yh9ApirQ8o8dOPqtvJXQ="),
        ("key+123", TOKEN, 1699808204, "jzKYRrM5y6Br0dRFPaTGOsbrDhY="),
    ],
)
def test_v1_presigned(key, credentials, expires_at, signature):
    """Key id, expiry, token and signature join the query."""
    request = Request("GET", "bucket", key, (("versionId", "versionId"),))
    query = dict(presign_v1(request, credentials, expires_at=expires_at))
    assert query["Signature"] == signature
    assert query["Expires"] == str(expires_at)
    assert query.get("security-token") == credentials.security_token


# --- the official signer on random requests

# A header's value reaches the wire without spaces around it, and both sides sign what reaches the wire.
values = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12)
text = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
queries = st.dictionaries(
    st.one_of(
        text.filter(bool), st.sampled_from(["append", "position", "acl", "prefix", "continuation-token", "versionId"])
    ),
    text,
    max_size=5,
)
headers_ = st.dictionaries(
    st.sampled_from(
        ["content-type", "content-md5", "x-oss-meta-a", "x-oss-object-acl", "range", "x-other", "if-match"]
    ),
    values,
    max_size=5,
)
requests_ = st.builds(
    lambda method, key, query, headers: Request(method, "bucket", key, tuple(query.items()), headers),
    st.sampled_from(["GET", "HEAD", "PUT", "POST", "DELETE"]),
    st.one_of(st.none(), text.filter(bool)),
    queries,
    headers_,
)
times = st.integers(0, 4102444800)


def by_the_sdk(signer, request, credentials, now, expires_at=None):
    """What the SDK makes of the same request: its headers, and its URL's query."""
    target = f"{encode_path('/' + (request.key or ''))}?{encode_query(request.query)}"
    http = HttpRequest(request.method, f"https://bucket.example{target}", headers=dict(request.headers))
    context = SigningContext(
        product="oss",
        region="cn-hangzhou",
        bucket=request.bucket,
        key=request.key or "",
        request=http,
        credentials=sdk_credentials.Credentials(
            credentials.access_key_id, credentials.access_key_secret, credentials.security_token
        ),
        signing_time=datetime.datetime.fromtimestamp(now, datetime.UTC),
    )
    if expires_at is not None:
        context.auth_method_query = True
        context.expiration_time = datetime.datetime.fromtimestamp(expires_at, datetime.UTC)
    signer.sign(context)
    return http.headers, dict(parse_qsl(urlsplit(http.url).query, keep_blank_values=True))


@given(requests_, times, st.sampled_from([KEYS, TOKEN]))
def test_v4_header_against_the_sdk(request, now, credentials):
    """Header for header the same."""
    ours = sign_v4(request, credentials, region="cn-hangzhou", now=now)
    theirs, _ = by_the_sdk(SignerV4(), request, credentials, now)
    assert ours == {name: theirs[name] for name in ours}


@given(requests_, times, st.integers(1, 604800), st.sampled_from([KEYS, TOKEN]))
def test_v4_presigned_against_the_sdk(request, now, expires, credentials):
    """Parameter for parameter the same."""
    ours = dict(presign_v4(request, credentials, region="cn-hangzhou", now=now, expires=expires))
    _, theirs = by_the_sdk(SignerV4(), request, credentials, now, now + expires)
    assert ours == theirs


@given(requests_, times)
def test_v1_header_against_the_sdk(request, now):
    """The same signature; a token is left out, as that SDK sends it under a name of its own."""
    ours = sign_v1(request, KEYS, now=now)
    theirs, _ = by_the_sdk(SignerV1(), request, KEYS, now)
    assert ours == {"date": theirs["date"], "authorization": theirs["authorization"]}


@given(requests_, times, st.sampled_from([KEYS, TOKEN]))
def test_v1_presigned_against_the_sdk(request, expires_at, credentials):
    """Parameter for parameter the same."""
    ours = dict(presign_v1(request, credentials, expires_at=expires_at))
    _, theirs = by_the_sdk(SignerV1(), request, credentials, 0, expires_at)
    assert ours == theirs


# --- small things that everything rests on


def test_a_value_of_nought_is_signed():
    """``position=0`` is not ``position``."""
    at_nought = Request("POST", "bucket", "key", (("append", ""), ("position", "0")))
    without = Request("POST", "bucket", "key", (("append", ""), ("position", "")))
    assert sign_v4(at_nought, KEYS, region="r", now=0) != sign_v4(without, KEYS, region="r", now=0)
    assert sign_v1(at_nought, KEYS, now=0) != sign_v1(without, KEYS, now=0)


def test_the_signing_key_is_not_shared():
    """Neither between secrets nor between days, although it is kept."""
    request = Request("GET", "bucket", "key")
    seen = {
        sign_v4(request, Credentials("ak", secret), region=region, now=now)["authorization"]
        for secret in ("a", "b")
        for region in ("r", "s")
        for now in (0, 86400)
    }
    assert len(seen) == 8


def test_encoding():
    """Unreserved characters stay (RFC 3986 section 2.3), everything else is encoded, a slash only in a query."""
    assert encode_path("/a b+c~/é|") == "/a%20b%2Bc~/%C3%A9%7C"
    assert encode_query([("a/b", "c d"), ("append", ""), ("position", "0")]) == "a%2Fb=c%20d&append&position=0"


def test_http_date():
    """RFC 9110's own example."""
    assert http_date(784111777) == "Sun, 06 Nov 1994 08:49:37 GMT"
