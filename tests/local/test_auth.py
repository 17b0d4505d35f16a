"""Signatures: the published vectors against the verifier, and every refusal over a real socket."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import formatdate
from typing import TYPE_CHECKING

import pytest

from tailer.local import AccessKey, running
from tailer.local.auth import Authenticator, SignedRequest, canonical_request_v4, sign_v4, string_to_sign_v4
from tailer.local.refusal import Refusal

if TYPE_CHECKING:
    from conftest import Requester

    from tailer.local.server import LocalServer

V4_HEADERS = {
    "x-oss-head1": "value",
    "abc": "value",
    "zabc": "value",
    "xyz": "value",
    "content-type": "text/plain",
    "x-oss-content-sha256": "UNSIGNED-PAYLOAD",
}
V4_QUERY = (
    ("param1", "value1"),
    ("+param1", "value3"),
    ("|param1", "value4"),
    ("+param2", ""),
    ("|param2", ""),
    ("param2", ""),
)


def authenticator(now: float, token: str | None = None) -> Authenticator:
    """One that knows the vectors' key, at their time."""
    return Authenticator([AccessKey("ak", "sk", token)], region="cn-hangzhou", clock=lambda: now)


def stamp(now: float) -> str:
    """As in x-oss-date."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")


def v4_request(now: float, signature: str, additional: str = "", token: str | None = None) -> SignedRequest:
    """The published input with its signature in the header."""
    date = stamp(now)
    headers = {**V4_HEADERS, "x-oss-date": date}
    if token:
        headers["x-oss-security-token"] = token
    names = f",AdditionalHeaders={additional}" if additional else ""
    headers["authorization"] = (
        f"OSS4-HMAC-SHA256 Credential=ak/{date[:8]}/cn-hangzhou/oss/aliyun_v4_request{names},Signature={signature}"
    )
    return SignedRequest("PUT", "bucket", "1234+-/123/1.txt", V4_QUERY, headers)


def v4_url_request(now: float, signature: str, token: str | None = None) -> SignedRequest:
    """The published input with its signature in the URL."""
    date = stamp(now)
    headers = {name: value for name, value in V4_HEADERS.items() if name != "x-oss-content-sha256"}
    headers["content-type"] = "application/octet-stream"
    query = [
        *V4_QUERY,
        ("x-oss-signature-version", "OSS4-HMAC-SHA256"),
        ("x-oss-date", date),
        ("x-oss-expires", "599"),
        ("x-oss-credential", f"ak/{date[:8]}/cn-hangzhou/oss/aliyun_v4_request"),
        ("x-oss-signature", signature),
    ]
    if token:
        query.append(("x-oss-security-token", token))
    return SignedRequest("PUT", "bucket", "1234+-/123/1.txt", tuple(query), headers)


V4_VECTORS = {
    "header": (
        1702743657,
        None,
        v4_request(1702743657, "e21d18daa82167720f9b1047ae7e7f1ce7cb77a31e8203a7d5f4624fa0284afe"),
    ),
    "header with token": (
        1702784856,
        "token",
        v4_request(1702784856, "b94a3f999cf85bcdc00d332fbd3734ba03e48382c36fa4d5af5df817395bd9ea", token="token"),
    ),
    "header with additional headers": (
        1702747512,
        None,
        v4_request(1702747512, "4a4183c187c07c8947db7620deb0a6b38d9fbdd34187b6dbaccb316fa251212f", "abc;zabc"),
    ),
    "url": (
        1702781677,
        None,
        v4_url_request(1702781677, "a39966c61718be0d5b14e668088b3fa07601033f6518ac7b523100014269c0fe"),
    ),
    "url with token": (
        1702785388,
        "token",
        v4_url_request(1702785388, "3817ac9d206cd6dfc90f1c09c00be45005602e55898f26f5ddb06d7892e1f8b5", "token"),
    ),
}


@pytest.mark.parametrize("name", V4_VECTORS)
def test_published_vectors_of_version_4(name: str) -> None:
    """Each is accepted, and refused when anything that it signs is another."""
    now, token, request = V4_VECTORS[name]
    checker = authenticator(now, token)
    key = checker.identify(request)
    assert key is not None
    assert key.id == "ak"
    changed = [
        replace(request, method="GET"),
        replace(request, key="1234+-/123/2.txt"),
        replace(request, bucket="bucke"),
        replace(request, query=(*request.query, ("extra", ""))),
        replace(request, headers={**request.headers, "x-oss-head1": "other"}),
        replace(request, headers={**request.headers, "x-oss-new": "1"}),
        replace(request, headers={**request.headers, "content-type": "text/html"}),
    ]
    for other in changed:
        with pytest.raises(Refusal, match="SignatureDoesNotMatch"):
            checker.identify(other)


def test_published_canonical_request() -> None:
    """Its SHA-256 is the published one."""
    canonical = canonical_request_v4(V4_VECTORS["header"][2], [])
    assert hashlib.sha256(canonical.encode()).hexdigest() == (
        "f4613657f1b108998e8dbd10a1aa5da621dc2c6e02c9ddec0f163664848704c4"
    )


V1_HEADER = SignedRequest(
    "PUT",
    "examplebucket",
    "nelson",
    (),
    {
        "content-md5": "eB5eJF1ptWaXm4bijSPyxw==",
        "content-type": "text/html",
        "x-oss-date": "Wed, 28 Dec 2022 10:27:41 GMT",
        "x-oss-meta-author": "alice",
        "x-oss-meta-magic": "abracadabra",
        "authorization": "OSS ak:kSHKmLxlyEAKtZPkJhG9bZb5k7M=",
    },
)


def v1_url(key: str, expires: int, signature: str, token: str | None = None) -> SignedRequest:
    """A GET of a version, signed in the URL."""
    query = [
        ("versionId", "versionId"),
        ("OSSAccessKeyId", "ak"),
        ("Expires", str(expires)),
        ("Signature", signature),
    ]
    return SignedRequest("GET", "bucket", key, (*query, *([("security-token", token)] if token else [])), {})


def test_published_vectors_of_version_1() -> None:
    """In the header, in the URL, in the URL with a token; and not with another key."""
    sent = datetime(2022, 12, 28, 10, 27, 41, tzinfo=UTC).timestamp()
    assert authenticator(sent).identify(V1_HEADER) is not None
    assert authenticator(0).identify(v1_url("key", 1699807420, "dcLTea+Yh9ApirQ8o8dOPqtvJXQ=")) is not None
    with_token = v1_url("key+123", 1699808204, "jzKYRrM5y6Br0dRFPaTGOsbrDhY=", "token")
    assert authenticator(0, "token").identify(with_token) is not None
    with pytest.raises(Refusal, match="SignatureDoesNotMatch"):
        authenticator(0).identify(v1_url("other", 1699807420, "dcLTea+Yh9ApirQ8o8dOPqtvJXQ="))
    with pytest.raises(Refusal, match="Request has expired"):
        authenticator(1699807421).identify(v1_url("key", 1699807420, "dcLTea+Yh9ApirQ8o8dOPqtvJXQ="))


def test_order_and_spaces_of_the_authorization_header() -> None:
    """One SDK writes ", " and puts the signature before the additional headers."""
    now, _, request = V4_VECTORS["header with additional headers"]
    text = request.headers["authorization"]
    scheme, rest = text.split(" ", 1)
    credential, additional, signature = rest.split(",")
    for fields in ([credential, signature, additional], [signature, additional, credential]):
        for comma in (",", ", ", " , "):
            header = f"{scheme}  {comma.join(fields)}"
            assert authenticator(now).identify(replace(request, headers={**request.headers, "authorization": header}))


@pytest.mark.parametrize(
    ("header", "code", "ec"),
    [
        ("OSS4-HMAC-SHA256 Credential=ak/20231216/cn-hangzhou/oss/aliyun_v4_request", "InvalidArgument", None),
        ("OSS4-HMAC-SHA256 Credential=ak/20231216,Signature=00", "InvalidArgument", None),
        (
            "OSS4-HMAC-SHA256 Credential=ak/20231216/cn-beijing/oss/aliyun_v4_request,Signature=00",
            "InvalidArgument",
            "0002-00000226",
        ),
        (
            "OSS4-HMAC-SHA256 Credential=ak/20231216/cn-hangzhou/oss/aliyun_v4_request,AdditionalHeaders=,Signature=0",
            "InvalidArgument",
            "0002-00000209",
        ),
        (
            "OSS4-HMAC-SHA256 Credential=no/20231216/cn-hangzhou/oss/aliyun_v4_request,Signature=00",
            "InvalidAccessKeyId",
            "0002-00000902",
        ),
        (
            "OSS4-HMAC-SHA256 Credential=ak/20231216/cn-hangzhou/oss/aliyun_v4_request,Signature=é",
            "SignatureDoesNotMatch",
            "0002-00000040",
        ),
        ("OSS2 AccessKeyId:ak,Signature:x", "InvalidArgument", None),
        ("OSS ak", "InvalidArgument", None),
        ("Bearer x", "InvalidArgument", None),
        ("", "InvalidArgument", None),
    ],
)
def test_bad_authorization_headers(header: str, code: str, ec: str | None) -> None:
    """Each has its own refusal; none is taken for anonymous."""
    now, _, request = V4_VECTORS["header"]
    with pytest.raises(Refusal) as refused:
        authenticator(now).identify(replace(request, headers={**request.headers, "authorization": header}))
    assert (refused.value.code, refused.value.ec) == (code, ec)


def test_scope_of_another_day_is_refused() -> None:
    """However well it is signed: the key of a scope is good for its day alone."""
    now = V4_VECTORS["header"][0]
    for day, accepted in (("20231216", True), ("20231217", False)):
        request = v4_request(now, "0" * 64)
        scope = f"{day}/cn-hangzhou/oss/aliyun_v4_request"
        text = string_to_sign_v4(canonical_request_v4(request, []), stamp(now), scope)
        header = f"OSS4-HMAC-SHA256 Credential=ak/{scope},Signature={sign_v4('sk', scope, text)}"
        request = replace(request, headers={**request.headers, "authorization": header})
        if accepted:
            assert authenticator(now).identify(request)
        else:
            with pytest.raises(Refusal, match="SignatureDoesNotMatch"):
                authenticator(now).identify(request)


@pytest.mark.parametrize(
    ("day", "date", "code"),
    [
        ("20231216", "Sat, 16 Dec 2023 16:20:57 GMT", None),
        ("20231216", "Sun, 17 Dec 2023 00:20:57 +0800", None),
        ("20231217", "Sat, 16 Dec 2023 16:20:57 GMT", "SignatureDoesNotMatch"),
        ("20231216", "Sat, 16 Dec 2023 17:20:57 GMT", "RequestTimeTooSkewed"),
        ("20231216", "20231216T162057Z", "AccessDenied"),
        ("20231216", "", "AccessDenied"),
    ],
)
def test_date_of_http_stands_in_for_x_oss_date(day: str, date: str, code: str | None) -> None:
    """The first SDK for Go signs version 4 with Date alone, and as it stands there."""
    now = V4_VECTORS["header"][0]
    headers = {name: value for name, value in V4_HEADERS.items() if name != "x-oss-date"}
    request = SignedRequest("PUT", "bucket", "1234+-/123/1.txt", V4_QUERY, {**headers, "date": date})
    scope = f"{day}/cn-hangzhou/oss/aliyun_v4_request"
    text = string_to_sign_v4(canonical_request_v4(request, []), date, scope)
    header = f"OSS4-HMAC-SHA256 Credential=ak/{scope},Signature={sign_v4('sk', scope, text)}"
    request = replace(request, headers={**request.headers, "authorization": header})
    if code is None:
        assert authenticator(now).identify(request)
    else:
        with pytest.raises(Refusal, match=code):
            authenticator(now).identify(request)


@pytest.mark.parametrize("expires", ["0", "-1", "x", "604801", ""])
def test_bad_expiry_of_a_version_4_url(expires: str) -> None:
    """1 second to 7 days."""
    now, _, request = V4_VECTORS["url"]
    query = tuple((name, expires if name == "x-oss-expires" else value) for name, value in request.query)
    with pytest.raises(Refusal, match="InvalidArgument"):
        authenticator(now).identify(replace(request, query=query))


def test_version_4_url_expires() -> None:
    """403 AccessDenied, "Request has expired."; and one from the future is skewed."""
    now, _, request = V4_VECTORS["url"]
    assert authenticator(now + 599).identify(request)
    with pytest.raises(Refusal, match="AccessDenied: Request has expired"):
        authenticator(now + 600).identify(request)
    with pytest.raises(Refusal, match="RequestTimeTooSkewed"):
        authenticator(now - 1000).identify(request)


def test_secrets_are_not_shown() -> None:
    """Neither in repr nor in a refusal."""
    now, _, request = V4_VECTORS["header"]
    key = AccessKey("ak", "very-secret", "very-token")
    assert "very" not in repr(key)
    checker = Authenticator([AccessKey("ak", "very-secret")], region="cn-hangzhou", clock=lambda: now)
    with pytest.raises(Refusal) as refused:
        checker.identify(request)
    assert "very-secret" not in str(refused.value) + str(refused.value.fields)


# --- over the socket


def test_wrong_key_wrong_secret(ask: Requester) -> None:
    """With all that a developer needs to compare."""
    reply = replace(ask, id="nobody")("GET", "log")
    assert (reply.status, reply.code, reply.error["OSSAccessKeyId"]) == (403, "InvalidAccessKeyId", "nobody")
    reply = replace(ask, secret="wrong")("GET", "log")
    assert (reply.status, reply.code) == (403, "SignatureDoesNotMatch")
    assert reply.error["StringToSign"].startswith("OSS4-HMAC-SHA256\n")
    assert bytes.fromhex(reply.error["StringToSignBytes"]).decode() == reply.error["StringToSign"]
    assert reply.error["CanonicalRequest"].startswith("GET\n/demo/log\n")
    head = replace(ask, secret="wrong")("HEAD", "log")
    assert (head.status, head.code, head.body) == (403, "SignatureDoesNotMatch", b"")


@pytest.mark.parametrize("offset", [-3600, -901, 902, 86400])
def test_skew(ask: Requester, offset: float) -> None:
    """More than 15 minutes either way; the answer says both times."""
    reply = replace(ask, offset=offset)("GET", "log")
    assert (reply.status, reply.code) == (403, "RequestTimeTooSkewed")
    assert reply.error["MaxAllowedSkewMilliseconds"] == "900000"
    assert reply.error["ServerTime"].endswith(".000Z")
    assert reply.error["RequestTime"].endswith("Z")
    assert replace(ask, offset=800 if offset > 0 else -800)("GET", "log").code == "NoSuchKey"


def test_wrong_region(ask: Requester) -> None:
    """400 InvalidArgument."""
    reply = replace(ask, region="cn-hangzhou")("GET", "log")
    assert (reply.status, reply.code, reply.error["EC"]) == (400, "InvalidArgument", "0002-00000226")
    assert reply.error["Message"] == "Invalid signing region in Authorization header."


def sign_v1(headers: dict[str, str], method: str, resource: str) -> None:
    """Version 1 by hand."""
    oss = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers) if name.startswith("x-oss-"))
    first = [method, headers.get("Content-MD5", ""), headers.get("Content-Type", ""), headers["Date"]]
    text = "\n".join([*first, oss + resource])
    digest = hmac.new(b"local-secret", text.encode(), hashlib.sha1).digest()
    headers["Authorization"] = f"OSS local:{base64.b64encode(digest).decode()}"


def test_version_1_over_the_socket(ask: Requester) -> None:
    """Sub-resources in their order, the key unescaped, seal signed or not."""
    key = "a b+ü"

    def signed(method: str, resource: str) -> object:
        def extra(headers: dict[str, str]) -> None:
            headers["Date"] = formatdate(usegmt=True)
            sign_v1(headers, method, resource)

        return extra

    resource = f"/demo/{key}"
    reply = ask(
        "POST", key, "position=0&append=", b"abc", sign=False, extra=signed("POST", f"{resource}?append&position=0")
    )
    assert reply.status == 200, reply.body
    assert ask("GET", key, "foo=1", sign=False, extra=signed("GET", resource)).body == b"abc"
    for name in ("?position=3&seal", "?position=3"):
        reply = ask("POST", key, "seal&position=3", b"", sign=False, extra=signed("POST", resource + name))
        assert reply.status == 200
    reply = ask("GET", key, sign=False, extra=signed("HEAD", resource))
    assert (reply.code, reply.error["StringToSign"][:4]) == ("SignatureDoesNotMatch", "GET\n")
    assert ask("GET", key, sign=False, Authorization="OSS local:x").code == "AccessDenied"
    old = {"Authorization": "OSS local:x", "Date": formatdate(time.time() - 2000, usegmt=True)}
    assert ask("GET", key, sign=False, **old).code == "RequestTimeTooSkewed"


@pytest.fixture
def temporary() -> LocalServer:
    """A server with a temporary key that can be let expire."""
    with running(["demo"], access_keys=[AccessKey("local", "local-secret", token="tok")]) as server:
        yield server


def test_security_tokens(ask: Requester, temporary: LocalServer) -> None:
    """Right, wrong, missing, of another key, expired, and one for a key that has none."""
    good = replace(ask, server=temporary, token="tok")
    assert good("GET", "log").code == "NoSuchKey"
    for asked, code, ec in [
        (replace(good, token="other"), "InvalidSecurityToken", "0002-00000006"),
        (replace(good, token=None), "InvalidAccessKeyId", "0002-00000902"),
        (replace(ask, token="tok"), "InvalidAccessKeyId", "0002-00000002"),
    ]:
        reply = asked("GET", "log")
        assert (reply.status, reply.code, reply.error["EC"]) == (403, code, ec)
    temporary.authenticator.keys["second"] = AccessKey("second", "secret", "its own")
    reply = replace(good, token="its own")("GET", "log")
    assert (reply.status, reply.code, reply.error["EC"]) == (
        403,
        "AccessKeyIdAndSecurityTokenNotMatch",
        "0002-00000004",
    )
    temporary.authenticator.keys["local"] = AccessKey("local", "local-secret", "tok", expires=time.time() - 1)
    reply = good("HEAD", "log")
    assert (reply.status, reply.code, reply.headers["x-oss-ec"]) == (403, "SecurityTokenExpired", "0002-00000007")
    assert temporary.environment()["OSS_SESSION_TOKEN"] == "tok"


def test_a_token_expires_while_the_server_runs(ask: Requester) -> None:
    """At its second, and not before."""
    now = [time.time()]
    keys = [AccessKey("sts", "secret", "tok", expires=now[0] + 60)]
    with running(["demo"], access_keys=keys, clock=lambda: now[0]) as server:
        holder = replace(ask, server=server, id="sts", secret="secret", token="tok")
        assert holder.append("log", 0, b"one").position == 3
        now[0] += 59
        assert holder.append("log", 3, b"two").position == 6
        now[0] += 1
        assert holder.append("log", 6, b"x").code == "SecurityTokenExpired"
        server.authenticator.keys["sts"] = AccessKey("sts", "secret", "new", expires=now[0] + 60)
        assert holder.append("log", 6, b"x").code == "InvalidSecurityToken"
        assert replace(holder, token="new").append("log", 6, b"x").position == 7


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"id": "", "secret": "x"}, "an id and a secret"),
        ({"id": "x", "secret": ""}, "an id and a secret"),
        ({"id": "x", "secret": "y", "expires": 1.0}, "does not expire"),
    ],
)
def test_keys_that_cannot_be(given: dict[str, object], message: str) -> None:
    """They are refused when they are made."""
    with pytest.raises(ValueError, match=message):
        AccessKey(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["x-oss-security-token", "security-token"])
def test_both_spellings_of_the_token_header_in_version_1(ask: Requester, temporary: LocalServer, name: str) -> None:
    """Two official SDKs leave the prefix out."""

    def extra(headers: dict[str, str]) -> None:
        headers["Date"] = formatdate(usegmt=True)
        headers[name] = "tok"
        sign_v1(headers, "GET", "/demo/log")

    assert replace(ask, server=temporary)("GET", "log", sign=False, extra=extra).code == "NoSuchKey"
