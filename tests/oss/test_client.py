"""The client against a scripted server, over both transports: what goes out, what each answer becomes."""

from __future__ import annotations

import asyncio
import base64

import pytest

from tailer import errors
from tailer.core.position import ObjectRef
from tailer.core.ranges import ByteRange
from tailer.oss.address import Endpoint, parse_address
from tailer.oss.client import ServiceSettings, connect
from tailer.oss.credentials import Anonymous, Credentials

REF = ObjectRef("bucket", "app.log")
META = {
    "Last-Modified": "Wed, 28 Dec 2022 10:27:41 GMT",
    "ETag": '"24F7FA10676D816E0D6C6B5600000000"',
    "x-oss-object-type": "Appendable",
    "x-oss-hash-crc64ecma": "5981764153023615706",
    "x-oss-storage-class": "Standard",
}


def run(wire, kind, replies, act, **options):
    """What `act` gives or raises, and the server with what came to it."""

    async def main():
        async with wire.serving(*replies) as server, wire.connected(server, kind, **options) as client:
            try:
                return await asyncio.wait_for(act(client), 20), server
            except errors.TailerError as error:
                return error, server

    return asyncio.run(main())


def head(client):
    return client.head(REF)


def fetch(client, start=3, stop=100):
    return client.fetch(REF, ByteRange(start, stop))


def partial(wire, start, stop, size, body, **more):
    headers = {**META, "Content-Range": f"bytes {start}-{stop - 1}/{size}", **more.pop("headers", {})}
    return wire.answer(206, headers, body, **more)


# --- what goes out


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("a//b", "a//b"),
        ("a+b", "a%2Bb"),
        ("100%", "100%25"),
        ("a%2Fb", "a%252Fb"),
        ("a/%2e%2e/b", "a/%252e%252e/b"),
        ("with space", "with%20space"),
        ("new\nline\ttab", "new%0Aline%09tab"),
        ("why?#no", "why%3F%23no"),
        ("日志/é", "%E6%97%A5%E5%BF%97/%C3%A9"),
        ("...", "..."),
        ("a/.b/..c/d..", "a/.b/..c/d.."),
        ("\"<>`{}|\\^[]~!$&'()*,;=:@", "%22%3C%3E%60%7B%7D%7C%5C%5E%5B%5D~%21%24%26%27%28%29%2A%2C%3B%3D%3A%40"),
        ("folder/", "folder/"),
        ("é" * 511 + "x", "%C3%A9" * 511 + "x"),
    ],
)
def test_a_key_reaches_the_service_as_it_is(wire, kind, key, path):
    """The request target on the socket is the key, percent-encoded once: no client folds or decodes it."""

    async def act(client):
        await client.head(ObjectRef("bucket", key))
        await client.append(ObjectRef("bucket", key), 0, b"x")
        await client.fetch(ObjectRef("bucket", key), ByteRange(0, 1))

    replies = (
        wire.answer(200, META),
        wire.answer(200, {"x-oss-next-append-position": "1"}),
        partial(wire, 0, 1, 1, b"x"),
    )
    result, server = run(wire, kind, replies, act)
    assert result is None
    targets = [request.target for request in server.requests]
    assert targets == [f"/bucket/{path}", f"/bucket/{path}?append&position=0", f"/bucket/{path}"]


@pytest.mark.parametrize("key", [".", "..", "a/../b", "a/.", "./a", "../a"])
def test_a_key_that_no_request_can_name_is_refused_before_anything_is_sent(wire, kind, key):
    """Both clients fold dot segments, and would read another object."""
    error, server = run(wire, kind, [wire.answer()], lambda client: client.head(ObjectRef("bucket", key)))
    assert isinstance(error, errors.AddressError)
    assert "another object" in str(error)
    assert server.requests == []


def test_the_headers_of_a_ranged_get(wire, kind):
    """Raw bytes, standard ranges, a signature, our name."""
    _, server = run(wire, kind, [partial(wire, 3, 11, 11, b"lo world")], fetch)
    [request] = server.requests
    assert request.method == "GET"
    assert request.headers["range"] == "bytes=3-99"
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["x-oss-range-behavior"] == "standard"
    assert request.headers["user-agent"].startswith("oss-tail/")
    assert request.headers["authorization"].startswith("OSS4-HMAC-SHA256 Credential=ak/")
    assert "/cn-hangzhou/oss/aliyun_v4_request" in request.headers["authorization"]


def test_v1_signatures_are_sent_when_asked_for(wire, kind):
    """`sign_version` v1."""
    _, server = run(wire, kind, [wire.answer(200, META)], head, sign_version="v1")
    assert server.requests[0].headers["authorization"].startswith("OSS ak:")
    assert server.requests[0].headers["date"].endswith(" GMT")


def test_anonymous_requests_carry_no_signature(wire, kind):
    """Nothing of ours identifies the reader of a public object."""
    _, server = run(wire, kind, [wire.answer(200, META)], head, credentials=Anonymous())
    assert "authorization" not in server.requests[0].headers


def test_the_bytes_of_an_append_go_out_whole(wire, kind):
    """POST ?append&position=N with the body, its length and a content type."""
    data = bytes(range(256)) * 4096

    async def act(client):
        return await client.append(REF, 7, memoryview(data), {"X-OSS-Object-Acl": "private"})

    headers = {"x-oss-next-append-position": str(7 + len(data)), "x-oss-hash-crc64ecma": "12"}
    result, server = run(wire, kind, [wire.answer(200, headers)], act)
    assert (result.next_position, result.crc64) == (7 + len(data), 12)
    [request] = server.requests
    assert (request.method, request.target) == ("POST", "/bucket/app.log?append&position=7")
    assert request.body == data
    assert request.headers["content-type"] == "application/octet-stream"
    assert request.headers["x-oss-object-acl"] == "private"


def test_a_listing_asks_for_encoded_keys(wire, kind):
    """Every parameter is sent encoded, and the page comes back decoded."""
    body = (
        b"<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>"
        b"<NextContinuationToken>abc%2Bd</NextContinuationToken>"
        b"<Contents><Key>a%2Bb%0A</Key><Size>12</Size></Contents>"
        b"<CommonPrefixes><Prefix>a%20x/</Prefix></CommonPrefixes></ListBucketResult>"
    )

    def act(client):
        return client.list_objects(
            "bucket", "a b+", delimiter="/", start_after="a", continuation_token="t=", max_keys=7
        )

    page, server = run(wire, kind, [wire.answer(200, {}, body)], act)
    assert [row.key for row in page.objects] == ["a+b\n"]
    assert (page.prefixes, page.next_token) == (("a x/",), "abc+d")
    query = (
        "list-type=2&prefix=a%20b%2B&delimiter=%2F&start-after=a&continuation-token=t%3D&max-keys=7&encoding-type=url"
    )
    assert server.requests[0].target == f"/bucket/?{query}"


def test_connections_are_used_again(wire, kind):
    """A window read to its end, a HEAD and an error leave the connection as good as new."""
    replies = (
        partial(wire, 3, 11, 11, b"lo world"),
        wire.answer(200, META),
        wire.answer(404, {}, wire.xml_error("NoSuchKey")),
        wire.answer(200, META),
    )

    async def act(client):
        await fetch(client)
        await head(client)
        with pytest.raises(errors.ObjectNotFound):
            await fetch(client)
        await head(client)

    result, server = run(wire, kind, replies, act)
    assert result is None
    assert (len(server.requests), server.connections) == (4, 1)


# --- what answers become


def test_head(wire, kind):
    """Metadata comes from the headers."""
    meta, _ = run(wire, kind, [wire.answer(200, META, length=11)], head)
    assert (meta.size, meta.crc64, meta.type) == (11, 5981764153023615706, "Appendable")
    assert meta.etag == "24F7FA10676D816E0D6C6B5600000000"
    assert meta.last_modified == 1672223261
    assert not meta.sealed


def test_head_of_a_sealed_object(wire, kind):
    """x-oss-sealed-time says that no more bytes will come."""
    sealed = {**META, "x-oss-sealed-time": "Thu, 29 Dec 2022 00:00:00 GMT"}
    meta, _ = run(wire, kind, [wire.answer(200, sealed, length=11)], head)
    assert meta.sealed
    assert meta.sealed_time == 1672272000


def test_fetch(wire, kind):
    """The slice, and the object as the same answer states it."""
    window, _ = run(wire, kind, [partial(wire, 3, 11, 11, b"lo world")], fetch)
    assert (window.start, bytes(window.data)) == (3, b"lo world")
    assert (window.meta.size, window.meta.crc64) == (11, 5981764153023615706)


def test_a_window_of_many_pieces_is_read_whole(wire, kind):
    """Eight MiB, byte for byte."""
    data = bytes(range(256)) * (8 << 12)
    window, _ = run(
        wire, kind, [partial(wire, 0, len(data), len(data), data)], lambda client: fetch(client, 0, 1 << 30)
    )
    assert len(window.data) == 8 << 20
    assert bytes(window.data) == data


def test_content_encoding_is_never_undone(wire, kind):
    """A body that says that it is gzip is handed out as it is."""
    reply = partial(wire, 0, 4, 4, b"\x1f\x8b\x08\x00", headers={"Content-Encoding": "gzip"})
    window, _ = run(wire, kind, [reply], lambda client: fetch(client, 0, 9))
    assert bytes(window.data) == b"\x1f\x8b\x08\x00"


def test_a_chunked_window_is_as_good(wire, kind):
    """A proxy may take Content-Length away; Content-Range says what must come."""
    headers = {**META, "Content-Range": "bytes 3-10/11", "Transfer-Encoding": "chunked"}
    body = b"5\r\nlo wo\r\n3\r\nrld\r\n0\r\n\r\n"
    window, _ = run(wire, kind, [wire.answer(206, headers, body, length=False)], fetch)
    assert bytes(window.data) == b"lo world"


@pytest.mark.parametrize(
    ("status", "content_range", "body"),
    [
        (200, None, b"hello world"),
        (206, None, b"lo world"),
        (206, "bytes 0-10/11", b"hello world"),
        (206, "bytes 4-10/11", b"o world"),
        (206, "bytes 3-100/200", b"x" * 98),
        (206, "bytes 3-10/*", b"lo world"),
        (206, "bytes 3-10/9", b"lo world"),
        (206, "bytes 10-3/11", b"lo world"),
        (206, "nonsense", b"lo world"),
        (206, "bytes 3-10/11", b"lo wor"),
        (206, "bytes 3-10/11", b"lo world and more"),
    ],
)
def test_a_window_that_is_not_the_one_asked_for_is_never_used(wire, kind, status, content_range, body):
    """200 to a ranged GET, a Content-Range that lies, a length that does not fit: RangeIgnored."""
    headers = {**META, **({"Content-Range": content_range} if content_range else {})}
    error, _ = run(wire, kind, [wire.answer(status, headers, body)], fetch)
    assert isinstance(error, errors.RangeIgnored)
    assert error.retriable
    assert "\n" not in str(error)


@pytest.mark.parametrize("body", [b"5\r\nlo wo\r\n0\r\n\r\n", b"9\r\nlo world!\r\n0\r\n\r\n"])
def test_a_chunked_window_of_the_wrong_length_is_never_used(wire, kind, body):
    """Too short is a broken connection, too long a lie."""
    headers = {**META, "Content-Range": "bytes 3-10/11", "Transfer-Encoding": "chunked"}
    error, _ = run(wire, kind, [wire.answer(206, headers, body, length=False)], fetch)
    assert isinstance(error, (errors.ConnectionLost, errors.RangeIgnored))
    assert error.retriable


@pytest.mark.parametrize(
    "reply",
    [
        {"length": 8, "body": b"lo w"},
        {"length": 8, "body": b""},
        {"length": False, "body": b"4\r\nlo w\r\n", "headers": {"Transfer-Encoding": "chunked"}},
        {"length": False, "body": b"8\r\nlo w", "headers": {"Transfer-Encoding": "chunked"}},
    ],
)
def test_half_a_window_is_never_returned(wire, kind, reply):
    """A body shorter than announced, or chunks without an end: ConnectionLost, with its cause."""
    headers = {**META, "Content-Range": "bytes 3-10/11", **reply.get("headers", {})}
    data = wire.answer(206, headers, reply["body"], length=reply["length"])
    error, _ = run(wire, kind, [wire.reply(data, close=True)], fetch)
    assert isinstance(error, errors.ConnectionLost)
    assert error.retriable
    assert error.__cause__ is not None


def test_crc_header_missing(wire, kind):
    """Old objects have none: the metadata says so and does not guess."""
    meta, _ = run(wire, kind, [wire.answer(200, {"x-oss-object-type": "Appendable"}, length=5)], head)
    assert meta.crc64 is None
    assert meta.link is None


@pytest.mark.parametrize("value", ["", "abc", "-1", "12a", "18446744073709551616", "1" * 400, "१२", "1.5"])
def test_crc_header_garbled(wire, kind, value):
    """What cannot be a CRC-64 is an answer that no OSS gives, and is not taken for a missing one."""
    error, _ = run(wire, kind, [wire.answer(200, {**META, "x-oss-hash-crc64ecma": value}, length=5)], head)
    assert type(error) is errors.ProtocolError
    assert "x-oss-hash-crc64ecma" in str(error)


def test_a_welcome_page_is_not_an_object(wire, kind):
    """The portal of a hotel answers 200 to everything."""
    reply = wire.answer(200, {"Content-Type": "text/html"}, length=5000, oss=False)
    error, _ = run(wire, kind, [reply], head)
    assert type(error) is errors.ProtocolError


# --- refusals


def refusal(wire, status, code, **more):
    headers = more.pop("headers", {})
    return wire.answer(status, headers, wire.xml_error(code, **more))


@pytest.mark.parametrize(
    ("status", "code", "kind_of_error", "retriable"),
    [
        (404, "NoSuchKey", errors.ObjectNotFound, False),
        (404, "NoSuchBucket", errors.BucketNotFound, False),
        (403, "AccessDenied", errors.AccessDenied, False),
        (403, "SignatureDoesNotMatch", errors.CredentialsRefused, False),
        (403, "InvalidAccessKeyId", errors.CredentialsRefused, False),
        (403, "SecurityTokenExpired", errors.CredentialsExpired, False),
        (403, "InDebt", errors.AccessDenied, False),
        (403, "InvalidObjectState", errors.AccessDenied, False),
        (400, "PublicEndpointForbidden", errors.WrongEndpoint, False),
        (403, "SecondLevelDomainForbidden", errors.WrongEndpoint, False),
        (416, "InvalidRange", errors.RangeNotSatisfiable, False),
        (400, "RequestTimeout", errors.ServiceUnavailable, True),
        (429, "QpsLimitExceeded", errors.Throttled, True),
        (503, "TotalQpsLimitExceeded", errors.Throttled, True),
        (503, "DownloadTrafficRateLimitExceeded", errors.Throttled, True),
        (500, "InternalError", errors.ServiceUnavailable, True),
        (503, "ServiceUnavailable", errors.ServiceUnavailable, True),
        (501, "NotImplemented", errors.ServiceError, False),
        (400, "InvalidArgument", errors.ServiceError, False),
    ],
)
def test_refusals(wire, kind, status, code, kind_of_error, retriable):
    """Status and code choose the class; code, EC and request id are kept; the text is one line."""
    error, _ = run(wire, kind, [refusal(wire, status, code)], fetch)
    assert type(error) is kind_of_error
    assert (error.status, error.code, error.ec) == (status, code, "0000-00000001")
    assert error.request_id == "5C3D9175B6FC201293AD4890"
    assert error.retriable is retriable
    line = str(error)
    assert "\n" not in line
    assert code in line
    assert "5C3D9175B6FC201293AD4890" in line


def test_a_head_is_refused_through_its_headers(wire, kind):
    """x-oss-err holds the document, and Content-Length the length that it would have had."""
    encoded = base64.b64encode(wire.xml_error("NoSuchBucket").replace(b"\n", b"\r\n")).decode()
    headers = {"x-oss-err": encoded, "x-oss-ec": "0015-00000101", "Content-Type": "application/xml"}
    error, _ = run(wire, kind, [wire.answer(404, headers, length=287)], head)
    assert type(error) is errors.BucketNotFound
    assert (error.code, error.ec) == ("NoSuchBucket", "0015-00000101")


@pytest.mark.parametrize(
    ("status", "kind_of_error"),
    [(404, errors.ObjectNotFound), (403, errors.AccessDenied), (503, errors.ServiceUnavailable)],
)
def test_a_head_without_any_word_is_known_by_its_status(wire, kind, status, kind_of_error):
    """Old servers say nothing else."""
    error, _ = run(wire, kind, [wire.answer(status, oss=False)], head)
    assert type(error) is kind_of_error


def test_wrong_region_names_the_endpoint(wire, kind):
    """AccessDenied with an Endpoint is not about permissions."""
    reply = refusal(wire, 403, "AccessDenied", Endpoint="oss-cn-shanghai.aliyuncs.com")
    error, _ = run(wire, kind, [reply], fetch)
    assert type(error) is errors.WrongEndpoint
    assert error.endpoint == "oss-cn-shanghai.aliyuncs.com"
    assert "oss-cn-shanghai.aliyuncs.com" in str(error)


def test_a_redirect_is_not_followed(wire, kind):
    """Its target is named instead: a signature is good for one host alone."""
    reply = wire.answer(307, {"Location": "http://bucket.oss-cn-beijing.aliyuncs.com/app.log"})
    error, server = run(wire, kind, [reply], head)
    assert type(error) is errors.WrongEndpoint
    assert error.endpoint == "bucket.oss-cn-beijing.aliyuncs.com"
    assert len(server.requests) == 1


def test_wrong_signing_region(wire, kind):
    """V4 with another region in its scope: the hint says so."""
    message = "Invalid signing region in Authorization header."
    error, _ = run(wire, kind, [refusal(wire, 400, "InvalidArgument", message=message)], fetch)
    assert type(error) is errors.WrongEndpoint
    assert "region" in error.hint


def test_throttling_names_the_wait(wire, kind):
    """x-oss-qos-delay-time is in milliseconds."""
    reply = refusal(wire, 503, "TotalQpsLimitExceeded", headers={"x-oss-qos-delay-time": "1500"})
    error, _ = run(wire, kind, [reply], fetch)
    assert error.retry_after == 1.5


def test_an_append_at_the_wrong_position_names_the_right_one(wire, kind):
    """x-oss-next-append-position comes with the refusal."""
    reply = refusal(wire, 409, "PositionNotEqualToLength", headers={"x-oss-next-append-position": "1234"})
    error, _ = run(wire, kind, [reply], lambda client: client.append(REF, 1, b"x"))
    assert type(error) is errors.PositionMismatch
    assert error.next_position == 1234


@pytest.mark.parametrize(
    ("status", "code", "kind_of_error"),
    [(409, "ObjectNotAppendable", errors.NotAppendable), (400, "AppendSealedObjectNotAllowed", errors.ObjectSealed)],
)
def test_appends_that_the_object_refuses(wire, kind, status, code, kind_of_error):
    """Another type, or sealed."""
    error, _ = run(wire, kind, [refusal(wire, status, code)], lambda client: client.append(REF, 1, b"x"))
    assert type(error) is kind_of_error


def test_an_append_answered_without_a_position_is_not_believed(wire, kind):
    """A 200 that does not say where the object ends now is not OSS's."""
    error, _ = run(wire, kind, [wire.answer(200)], lambda client: client.append(REF, 1, b"x"))
    assert type(error) is errors.ProtocolError


@pytest.mark.parametrize(
    "body",
    [b"", b"<Error><Code>NoSu", b"\xff\xfe\x00", b"{}", b"<a/>", b"<!DOCTYPE x [<!ENTITY a 'b'>]><Error>&a;</Error>"],
)
def test_malformed_errors_are_known_by_their_status(wire, kind, body):
    """One line, the status, the request id; never a traceback of the parser."""
    error, _ = run(wire, kind, [wire.answer(503, {}, body)], fetch)
    assert type(error) is errors.ServiceUnavailable
    assert (error.status, error.code) == (503, None)
    assert error.request_id == "5C3D9175B6FC201293AD4890"


@pytest.mark.parametrize("status", [404, 403, 502, 503])
def test_html_of_a_proxy_says_nothing_about_the_object(wire, kind, status):
    """A 404 page of something in between must not pass for an object that is gone."""
    page = b"<!DOCTYPE html><html><title>Sorry</title></html>"
    reply = wire.answer(status, {"Content-Type": "text/html"}, page, oss=False)
    error, _ = run(wire, kind, [reply], fetch)
    assert not isinstance(error, errors.NotFound)
    assert error.retriable
    assert "between you and the service" in str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize("body", [b"<ListBucketResult>", b"<Other/>", b"not xml", b"", b"<html></html>"])
def test_malformed_listings(wire, kind, body):
    """Half a listing is no listing."""
    error, _ = run(wire, kind, [wire.answer(200, {}, body)], lambda client: client.list_objects("bucket"))
    assert type(error) is errors.ProtocolError


def test_a_missing_bucket_in_a_listing(wire, kind):
    """A bare 404 to a listing is about the bucket."""
    error, _ = run(wire, kind, [wire.answer(404)], lambda client: client.list_objects("bucket"))
    assert type(error) is errors.BucketNotFound


def test_a_private_object_without_keys_says_what_is_needed(wire, kind):
    """The hint fits the situation."""
    error, _ = run(wire, kind, [refusal(wire, 403, "AccessDenied")], fetch, credentials=Anonymous())
    assert "an access key is needed" in str(error)


# --- the two refusals that the client mends


def test_clock_skew_is_learnt_from_the_refusal(wire, kind):
    """The clock is off by a day: one refusal, one request signed anew, and none refused after it."""
    skewed = refusal(wire, 403, "RequestTimeTooSkewed", headers={"Date": "Wed, 28 Dec 2022 10:27:41 GMT"})

    async def act(client):
        await fetch(client)
        return await fetch(client)

    replies = [skewed, partial(wire, 3, 11, 11, b"lo world")]
    window, server = run(wire, kind, replies, act, clock=lambda: 1672223261 + 86400.0)
    assert bytes(window.data) == b"lo world"
    dates = [request.headers["x-oss-date"] for request in server.requests]
    assert dates == ["20221229T102741Z", "20221228T102741Z", "20221228T102741Z"]


def test_clock_skew_is_learnt_once(wire, kind):
    """A service that goes on refusing is believed."""
    skewed = refusal(wire, 403, "RequestTimeTooSkewed", ServerTime="2022-12-28T10:27:41.000Z")
    error, server = run(wire, kind, [skewed], fetch)
    assert type(error) is errors.ClockSkewed
    assert error.server_time == 1672223261
    assert len(server.requests) == 2


class Renewing:
    """Credentials with a new token after each refresh."""

    def __init__(self):
        self.refreshed = 0

    async def get(self):
        return Credentials("ak", "sk", f"token{self.refreshed}")

    async def refresh(self):
        self.refreshed += 1


def test_expired_credentials_are_fetched_again_once(wire, kind):
    """One refusal, one refresh, one more request."""
    provider = Renewing()
    replies = [refusal(wire, 403, "SecurityTokenExpired"), partial(wire, 3, 11, 11, b"lo world")]
    window, server = run(wire, kind, replies, fetch, credentials=provider)
    assert bytes(window.data) == b"lo world"
    tokens = [request.headers["x-oss-security-token"] for request in server.requests]
    assert tokens == ["token0", "token1"]


def test_credentials_that_stay_expired_are_an_error(wire, kind):
    """No loop."""
    provider = Renewing()
    error, server = run(wire, kind, [refusal(wire, 403, "SecurityTokenExpired")], fetch, credentials=provider)
    assert type(error) is errors.CredentialsExpired
    assert (len(server.requests), provider.refreshed) == (2, 1)


def test_static_credentials_are_not_tried_twice(wire, kind):
    """There is nothing to fetch again, so nothing is asked again."""
    error, server = run(wire, kind, [refusal(wire, 403, "SecurityTokenExpired")], fetch)
    assert type(error) is errors.CredentialsExpired
    assert len(server.requests) == 1


def test_requests_side_by_side_refresh_once(wire, kind):
    """The second of two that were refused finds new credentials there."""
    provider = Renewing()
    expired = refusal(wire, 403, "SecurityTokenExpired")

    def act(client):
        return asyncio.gather(fetch(client), fetch(client))

    replies = [expired, expired, partial(wire, 3, 11, 11, b"lo world")]
    windows, _ = run(wire, kind, replies, act, credentials=provider)
    assert [bytes(window.data) for window in windows] == [b"lo world"] * 2
    assert provider.refreshed == 1


# --- objects known by their URL


def by_url(wire, kind, replies, act, query="", path="/folder/app%20log"):
    """Run `act(client, ref)` on the object at a URL of the scripted server."""

    async def main():
        async with wire.serving(*replies) as server:
            address = parse_address(f"{server.url}{path}{query}")
            async with connect(ServiceSettings(Anonymous(), transport=kind), [address]) as client:
                try:
                    return await act(client, address.ref), server
                except errors.TailerError as error:
                    return error, server

    return asyncio.run(main())


PRESIGNED = "?x-oss-credential=ak%2F20231216%2Fcn-hangzhou&x-oss-signature=se%2Bcret&b=it's"


def test_a_public_url_is_read_unsigned(wire, kind):
    """HEAD and ranged GET, at the URL's own host and path."""

    async def act(client, ref):
        await client.head(ref)
        return await client.fetch(ref, ByteRange(3, 100))

    window, server = by_url(wire, kind, [wire.answer(200, META, length=11), partial(wire, 3, 11, 11, b"lo world")], act)
    assert bytes(window.data) == b"lo world"
    first, second = server.requests
    assert (first.method, first.target) == ("HEAD", "/folder/app%20log")
    assert (second.method, second.headers["range"]) == ("GET", "bytes=3-99")
    assert second.headers["x-oss-range-behavior"] == "standard"
    assert "authorization" not in second.headers


def test_a_presigned_url_is_sent_as_it_is(wire, kind):
    """Its query goes out byte for byte, and no x-oss- header is added to what was signed."""

    def act(client, ref):
        return client.fetch(ref, ByteRange(3, 100))

    window, server = by_url(wire, kind, [partial(wire, 3, 11, 11, b"lo world")], act, PRESIGNED)
    assert bytes(window.data) == b"lo world"
    [request] = server.requests
    assert request.target.replace("%27", "'") == "/folder/app%20log" + PRESIGNED
    assert request.headers["range"] == "bytes=3-"
    assert not [name for name in request.headers if name.startswith("x-oss-")]


def test_a_presigned_url_has_no_head(wire, kind):
    """The first byte is asked for instead; its Content-Range states the size."""
    meta, server = by_url(wire, kind, [partial(wire, 0, 1, 11, b"h")], lambda client, ref: client.head(ref), PRESIGNED)
    assert (meta.size, meta.crc64) == (11, 5981764153023615706)
    assert (server.requests[0].method, server.requests[0].headers["range"]) == ("GET", "bytes=0-0")


@pytest.mark.parametrize("status", [200, 416])
def test_a_presigned_head_of_an_empty_object(wire, kind, status):
    """In the default range mode 200 and no body, in the standard one 416."""
    reply = wire.answer(status, META if status == 200 else {})
    meta, _ = by_url(wire, kind, [reply], lambda client, ref: client.head(ref), PRESIGNED)
    assert meta.size == 0


def test_a_presigned_head_of_an_empty_object_tells_all_that_the_answer_says(wire, kind):
    """In the default range mode, where it is no refusal."""
    sealed = {**META, "x-oss-sealed-time": "Thu, 29 Dec 2022 00:00:00 GMT"}
    meta, _ = by_url(wire, kind, [wire.answer(200, sealed)], lambda client, ref: client.head(ref), PRESIGNED)
    assert (meta.size, meta.crc64, meta.type, meta.sealed) == (0, 0, "Appendable", True)


def test_a_presigned_window_is_cut_where_it_was_asked_to_end(wire, kind):
    """The answer goes on to the object's end; the rest is not read."""
    body = bytes(1000) * 5000
    reply = partial(wire, 0, len(body), len(body), body)
    window, _ = by_url(wire, kind, [reply], lambda client, ref: client.fetch(ref, ByteRange(0, 4096)), PRESIGNED)
    assert len(window.data) == 4096
    assert window.meta.size == len(body)


@pytest.mark.parametrize("size", [0, 2, 3])
def test_a_presigned_read_at_the_end_finds_nothing(wire, kind, size):
    """In the default range mode the whole object comes, as a 200: it is not used."""
    error, _ = by_url(
        wire,
        kind,
        [wire.answer(200, META, b"x" * size)],
        lambda client, ref: client.fetch(ref, ByteRange(3, 100)),
        PRESIGNED,
    )
    assert type(error) is errors.RangeNotSatisfiable


def test_a_presigned_url_that_expired_says_so_and_hides_its_query(wire, kind):
    """One line with what to do, and no signature in it."""
    reply = refusal(wire, 403, "AccessDenied", message="Request has expired.")
    error, _ = by_url(wire, kind, [reply], lambda client, ref: client.fetch(ref, ByteRange(3, 100)), PRESIGNED)
    assert type(error) is errors.AccessDenied
    assert "make a new one" in str(error)
    assert "cret" not in str(error)


def test_an_object_known_by_its_url_is_not_appended_to(wire, kind):
    """Nothing is sent."""
    error, server = by_url(wire, kind, [wire.answer()], lambda client, ref: client.append(ref, 0, b"x"))
    assert isinstance(error, errors.UsageError)
    assert server.requests == []


# --- around it


def test_the_observer_is_told_of_every_request(wire, kind):
    """Operation, status, seconds, bytes; None as status when no answer came."""
    told = []
    replies = [
        partial(wire, 3, 11, 11, b"lo world"),
        refusal(wire, 404, "NoSuchKey"),
        wire.reply(b"", close=True),
    ]

    async def act(client):
        await fetch(client)
        for _ in range(2):
            with pytest.raises(errors.TailerError):
                await fetch(client)

    run(wire, kind, replies, act, on_request=lambda *seen: told.append(seen))
    assert [(operation, status) for operation, status, _, _ in told] == [("get", 206), ("get", 404), ("get", None)]
    assert told[0][3] == 8
    assert all(seconds >= 0 for _, _, seconds, _ in told)


def test_a_bucket_with_an_endpoint_of_its_own(wire, kind):
    """`buckets` goes before `endpoint`."""

    async def main():
        async with wire.serving(wire.answer(200, META)) as server:
            settings = ServiceSettings(
                Anonymous(),
                Endpoint.parse("http://127.0.0.1:1"),
                buckets={"bucket": Endpoint.parse(server.url, "cname")},
                transport=kind,
            )
            async with connect(settings) as client:
                await client.head(REF)
            return server.requests[0].target

    assert asyncio.run(main()) == "/app.log"


def test_no_endpoint_at_all(wire, kind):
    """An oss:// object needs one."""

    async def main():
        async with connect(ServiceSettings(Anonymous(), transport=kind)) as client:
            await client.head(REF)

    with pytest.raises(errors.ConfigError, match="endpoint"):
        asyncio.run(main())


def test_a_client_without_a_region_cannot_sign_v4(wire, kind):
    """And says how to give one."""

    async def main():
        async with wire.serving(wire.answer()) as server:
            settings = ServiceSettings(Renewing(), Endpoint.parse(server.url), transport=kind)
            async with connect(settings) as client:
                await client.head(REF)

    with pytest.raises(errors.ConfigError, match="--region"):
        asyncio.run(main())
