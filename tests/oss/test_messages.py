"""What answers mean. The first half says it by example, the second feeds garbage."""

from __future__ import annotations

import base64
import time
import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tailer import errors
from tailer.core.ranges import ByteRange, ContentRange
from tailer.oss import messages
from tailer.oss.messages import (
    MAX_LIST_BODY,
    check_partial,
    error_from_response,
    meta_from_headers,
    parse_date,
    parse_list,
)


def headers(**values):
    """A lookup of headers; underscores stand for hyphens."""
    table = {name.replace("_", "-"): value for name, value in values.items()}
    return table.get


def error_body(code="AccessDenied", message="No.", **more):
    fields = {"Code": code, "Message": message, "RequestId": "ABC", **more}
    return ("<Error>" + "".join(f"<{k}>{v}</{k}>" for k, v in fields.items()) + "</Error>").encode()


# --- metadata


def test_meta_of_everything():
    """Every header that is read."""
    meta = meta_from_headers(
        headers(
            content_length="11",
            x_oss_hash_crc64ecma="18446744073709551615",
            x_oss_object_type="appendable",
            etag='"5B3C1A2E0563E1B002CC607C00000000"',
            last_modified="Fri, 24 Feb 2012 06:07:48 GMT",
            x_oss_version_id="null",
            x_oss_sealed_time="Fri, 24 Feb 2012 06:07:49 GMT",
            x_oss_storage_class="IA",
        )
    )
    assert meta.link is not None
    assert (meta.link.size, meta.link.crc64) == (11, 2**64 - 1)
    assert (meta.type, meta.etag) == ("Appendable", "5B3C1A2E0563E1B002CC607C00000000")
    assert (meta.last_modified, meta.sealed_time) == (1330063668, 1330063669)
    assert (meta.version_id, meta.storage_class) == ("null", "IA")


def test_meta_of_almost_nothing():
    """What was not said is None."""
    meta = meta_from_headers(headers(content_length="0"))
    assert (meta.size, meta.crc64, meta.type, meta.etag, meta.last_modified) == (0, None, None, None, None)
    assert not meta.sealed


@pytest.mark.parametrize("text", ["", "soon", "2026"])
def test_sealed_is_sealed_whatever_the_date_looks_like(text):
    """The presence of the header is what matters."""
    assert meta_from_headers(headers(content_length="0", x_oss_sealed_time=text)).sealed


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", "1.0", "0x10", "1e3", "9" * 30, "9223372036854775809", "\u0661", "12\x1d"]
)
def test_absurd_sizes(text):
    """Neither negative nor absurd numbers become a size."""
    with pytest.raises(errors.ProtocolError):
        meta_from_headers(headers(content_length=text))


def test_a_size_that_is_missing():
    """This is what an answer compressed on the fly looks like."""
    with pytest.raises(errors.ProtocolError, match="Content-Length"):
        meta_from_headers(headers(content_encoding="gzip"))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", 784111777),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("2020-05-18T05:45:47.000Z", 1589780747),
        ("2020-05-18T05:45:47Z", 1589780747),
        (" Sun, 06 Nov 1994 08:49:37 GMT ", 784111777),
        ("Sun, 31 Feb 1994 08:49:37 GMT", None),
        ("Sun, 06 Foo 1994 08:49:37 GMT", None),
        ("Sun, 06 anF 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 1994 25:49:37 GMT", None),
        ("Sun, 06 Nov 0000 08:49:37 GMT", None),
        ("Sun, 06 Nov 1994 08:49:37 CET", None),
        ("yesterday", None),
        ("", None),
        (None, None),
    ],
)
def test_dates(text, seconds):
    """HTTP's and XML's form; anything else is no date."""
    assert parse_date(text) == seconds


# --- ranges


def test_a_slice_that_the_end_of_the_object_cut():
    """The service clamps the end."""
    got = check_partial(206, headers(content_range="bytes 5-9/10", content_length="5"), ByteRange(5, 100))
    assert got == ContentRange(5, 10, 10)


def test_an_open_ended_request_may_bring_more():
    """And only that one."""
    header = headers(content_range="bytes 5-9/10", content_length="5")
    assert check_partial(206, header, ByteRange(5, 7), open_ended=True) == ContentRange(5, 10, 10)
    with pytest.raises(errors.RangeIgnored):
        check_partial(206, header, ByteRange(5, 7))


@pytest.mark.parametrize("status", [200, 203, 204, 304])
def test_no_other_status_carries_a_slice(status):
    """Not even with a Content-Range that fits."""
    with pytest.raises(errors.RangeIgnored, match=str(status)):
        check_partial(status, headers(content_range="bytes 5-9/10"), ByteRange(5, 10))


@given(st.text(max_size=40), st.integers(0, 100), st.integers(1, 100))
@example("bytes 0-9/10", 0, 10)
def test_a_content_range_is_right_or_refused(text, start, length):
    """Whatever it says, what is accepted starts where it was asked to and ends within."""
    asked = ByteRange(start, start + length)
    try:
        got = check_partial(206, {"content-range": text}.get, asked)
    except errors.RangeIgnored:
        return
    assert got.start == asked.start < got.stop <= min(asked.stop, got.size)


# --- errors


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("PublicEndpointForbidden", "CNAME"),
        ("SecondLevelDomainForbidden", "virtual"),
        ("TransferAccelerationDisabled", "regional endpoint"),
        ("InvalidObjectState", "restore it first"),
        ("UserDisable", "arrears"),
        ("InDebtOverdue", "arrears"),
        ("RequestTimeTooSkewed", "clock"),
        ("NoSuchBucket", "check the bucket's name"),
        ("InvalidAccessKeyId", "OSS_ACCESS_KEY_ID"),
    ],
)
def test_hints(code, words):
    """What to do is said where it is known."""
    assert words in str(error_from_response(403, headers(), error_body(code)))


def test_the_code_decides_before_the_status():
    """A throttle is a throttle under any status."""
    assert type(error_from_response(500, headers(), error_body("QpsLimitExceeded"))) is errors.Throttled


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        ({"x_oss_qos_delay_time": "250"}, 0.25),
        ({"retry_after": "7"}, 7),
        ({"retry_after": "99999999999"}, 3600),
        ({"retry_after": "Wed, 21 Oct 2015 07:28:00 GMT"}, None),
        ({"retry_after": "-1"}, None),
        ({}, None),
    ],
)
def test_the_wait_that_the_service_names(values, seconds):
    """Milliseconds or seconds, and never for ever."""
    assert error_from_response(503, headers(**values), b"").retry_after == seconds


def test_a_final_refusal_names_no_wait():
    """Waiting would not help."""
    assert error_from_response(404, headers(retry_after="7", x_oss_request_id="a"), b"").retry_after is None


def test_the_clock_of_the_service():
    """From the document, else from the Date header."""
    body = error_body("RequestTimeTooSkewed", ServerTime="2020-05-18T05:45:47.000Z")
    date = headers(date="Sun, 06 Nov 1994 08:49:37 GMT")
    assert error_from_response(403, date, body).server_time == 1589780747
    assert error_from_response(403, date, error_body("RequestTimeTooSkewed")).server_time == 784111777
    assert error_from_response(403, headers(), error_body("RequestTimeTooSkewed")).server_time is None


def test_padding_and_namespaces_do_not_matter():
    """Samples hold padded values, and a root with an xmlns."""
    body = b'<Error xmlns="http://doc.oss-cn-hangzhou.aliyuncs.com">\n <Code>\n NoSuchKey </Code></Error>'
    error = error_from_response(404, headers(), body)
    assert (type(error), error.code) == (errors.ObjectNotFound, "NoSuchKey")


def test_half_a_document_still_names_its_code():
    """What was whole before the cut is used."""
    error = error_from_response(404, headers(), b"<Error><Code>NoSuchBucket</Code><Mess")
    assert (type(error), error.code) == (errors.BucketNotFound, "NoSuchBucket")


def test_control_characters_do_not_reach_a_terminal():
    """A message is printed by somebody."""
    encoded = base64.b64encode("<Error><Code>A</Code><Message>a\u009b31m\nb\u202e</Message></Error>".encode()).decode()
    line = str(error_from_response(403, headers(x_oss_err=encoded, x_oss_ec="\x1b[31m"), b""))
    assert line.isprintable()


@pytest.mark.parametrize("encoded", ["", "!", "a", "é", "AAAA", base64.b64encode(b"<Error><Code>").decode()])
def test_x_oss_err_that_cannot_be_read(encoded):
    """The status still speaks."""
    error = error_from_response(404, headers(x_oss_err=encoded), b"")
    assert (type(error), error.code) == (errors.ObjectNotFound, None)


def test_a_proxy_that_wants_a_password():
    """407 is never OSS's."""
    error = error_from_response(407, headers(), b"")
    assert type(error) is errors.ProtocolError
    assert "HTTPS_PROXY" in str(error)


texts = st.text(max_size=60)
NAMES = """
content-length content-range content-type date etag last-modified location retry-after x-oss-ec x-oss-err
x-oss-hash-crc64ecma x-oss-next-append-position x-oss-object-type x-oss-qos-delay-time x-oss-request-id
x-oss-sealed-time x-oss-version-id
"""
names = st.sampled_from(NAMES.split())
header_tables = st.dictionaries(names, texts, max_size=6)
XML = b"""
<Error> </Error> <Code> </Code> NoSuchKey <Message> </Message> &lt; &x; <!DOCTYPE_a> <![CDATA[x]]> \xff
<ListBucketResult> </ListBucketResult> <Contents> </Contents> <Key>k</Key> <Size>1</Size> <EncodingType>url
<?xml_version='1.0'_encoding='utf-16'?> <a_b='c'> <!DOCTYPE_a_[<!ENTITY_b_"c">]> &b; <!-- --> <?a ?> </a> \0 \xfe\xff
"""
xmlish = st.lists(st.sampled_from([word.replace(b"_", b" ") for word in XML.split()]), max_size=14).map(b"".join)
bodies = st.one_of(st.binary(max_size=200), xmlish)


@given(st.integers(300, 599), header_tables, bodies, st.booleans())
def test_any_answer_is_an_error_of_ours(status, table, body, of_bucket):
    """Of one printable line, whose status is the answer's."""
    error = error_from_response(status, table.get, body, of_bucket=of_bucket)
    assert isinstance(error, (errors.ServiceError, errors.ProtocolError))
    assert str(error)
    assert "\n" not in str(error)
    assert getattr(error, "status", status) == status
    assert error.retry_after is None or 0 <= error.retry_after <= 3600


@given(header_tables)
def test_any_headers_are_metadata_or_refused(table):
    """A size and a CRC-64 that can be ones, or a ProtocolError."""
    try:
        meta = meta_from_headers(table.get)
    except errors.ProtocolError:
        return
    assert 0 <= meta.size <= 2**63
    assert meta.crc64 is None or 0 <= meta.crc64 < 2**64


# --- listings

ENTITIES = b'<!DOCTYPE l [<!ENTITY a "%s">' % (b"x" * 50_000)
ENTITIES += b"".join(b'<!ENTITY a%d "%s">' % (n, b"&a%d;" % (n - 1) * 10 if n else b"&a;" * 10) for n in range(8))
ENTITIES += b"]><ListBucketResult><Name>%s</Name>"


def listing(inner, *, encoding="url"):
    kind = f"<EncodingType>{encoding}</EncodingType>" if encoding else ""
    return f'<?xml version="1.0" encoding="UTF-8"?><ListBucketResult>{kind}{inner}</ListBucketResult>'.encode()


def test_a_page():
    """Keys, sizes, types, prefixes, and where it goes on."""
    page = parse_list(
        listing(
            "<Name>bucket</Name><Prefix>a</Prefix><KeyCount>2</KeyCount><IsTruncated>true</IsTruncated>"
            "<NextContinuationToken>CgJiYw--</NextContinuationToken>"
            "<Contents><Key>a%2Fb%20c%2B%0A%E6%97%A5</Key><LastModified>2020-05-18T05:45:47.000Z</LastModified>"
            '<ETag>"35A27C2B9EAEEB6F48FD7FB500000000"</ETag><Type>Appendable</Type><Size>5368709120</Size>'
            "<StorageClass>STANDARD</StorageClass><Owner><ID>1</ID><Key>not this</Key></Owner></Contents>"
            "<CommonPrefixes><Prefix>a%2F</Prefix></CommonPrefixes>"
        )
    )
    [row] = page.objects
    assert row.key == "a/b c+\n日"
    assert (row.meta.size, row.meta.type, row.meta.last_modified) == (5368709120, "Appendable", 1589780747)
    assert (row.meta.etag, row.meta.crc64) == ("35A27C2B9EAEEB6F48FD7FB500000000", None)
    assert (page.prefixes, page.next_token) == (("a/",), "CgJiYw--")


def test_a_last_page():
    """No token, also when the service sends one."""
    page = parse_list(
        listing("<IsTruncated>false</IsTruncated><NextContinuationToken>x</NextContinuationToken>", encoding="")
    )
    assert page == parse_list(b"<ListBucketResult></ListBucketResult>")
    assert page.next_token is None


def test_keys_are_decoded_only_when_they_are_encoded():
    """A key may hold a percent sign of its own, and spaces around it."""
    page = parse_list(listing("<Contents><Key> a%20b </Key><Size>0</Size></Contents>", encoding=""))
    assert page.objects[0].key == " a%20b "


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<ListBucketResult>",
        b"<Other></Other>",
        b"<Other><ListBucketResult></ListBucketResult></Other>",
        listing("<Contents><Size>1</Size></Contents>"),
        listing("<Contents><Key>a</Key></Contents>"),
        listing("<Contents><Key></Key><Size>1</Size></Contents>"),
        listing("<Contents><Key>a</Key><Size>-1</Size></Contents>"),
        listing("<Contents><Key>a</Key><Size>99999999999999999999</Size></Contents>"),
        listing("<Contents><Key>%FF</Key><Size>1</Size></Contents>"),
        listing("<IsTruncated>true</IsTruncated>"),
        b"<!DOCTYPE x><ListBucketResult></ListBucketResult>",
        b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><ListBucketResult>&e;</ListBucketResult>',
        b"<?xml version='1.0' encoding='no-such'?><ListBucketResult></ListBucketResult>",
        b"<a>" * 100 + b"</a>" * 100,
        b" " * (MAX_LIST_BODY + 1),
    ],
)
def test_listings_that_are_refused(body):
    """Half a page would be taken for objects that are gone."""
    with pytest.raises(errors.ProtocolError):
        parse_list(body)


@pytest.mark.parametrize(
    "costly",
    {
        "entities that grow tenfold with each": ENTITIES % b"&a7;",
        "an entity that is used again and again": ENTITIES % (b"&a;" * 200_000),
        "an entity that is a file": b'<!DOCTYPE l [<!ENTITY a SYSTEM "file:///dev/zero">]><ListBucketResult>&a;',
        "a document type that is fetched": b'<!DOCTYPE l SYSTEM "http://127.0.0.1:1/l.dtd"><ListBucketResult>',
        "a parameter entity": b'<!DOCTYPE l [<!ENTITY % a SYSTEM "file:///etc/passwd"> %a;]><ListBucketResult>',
        "attributes": b"<ListBucketResult %s>" % b" ".join(b'a%x=""' % n for n in range(400_000)),
        "rows": b"<ListBucketResult>" + b"<Contents/>" * 500_000,
        "elements": b"<ListBucketResult>" + b"<a/>" * 1_000_000,
        "depth": b"<ListBucketResult>" + b"<a>" * 1_000_000,
        "a name": b"<" + b"a" * 5_000_000,
        "a text": b"<ListBucketResult><a>" + b"\n" * 5_000_000,
        "a comment": b"<ListBucketResult><!--" + b"-" * 5_000_000,
        "references": b"<ListBucketResult><a>" + b"&#65;" * 1_000_000,
    }.items(),
    ids=lambda named: named[0],
)
def test_xml_that_would_be_costly_is_refused_in_little_time_and_memory(costly):
    """As a listing, and as a refusal, whose status then speaks alone."""
    _, body = costly
    tracemalloc.start()
    started = time.process_time()
    try:
        with pytest.raises(errors.ProtocolError):
            parse_list(body)
        error = error_from_response(404, headers(x_oss_request_id="A"), body.replace(b"ListBucketResult", b"Error"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert time.process_time() - started < 10, "a second, but machines differ"
    assert peak < 3 * len(body) + (64 << 20)
    assert (type(error), error.code) == (errors.ObjectNotFound, None)


def test_the_largest_page_there_can_be_is_read():
    """A thousand keys of 1023 bytes, all percent-encoded, in rows with all that a row can have."""
    key = "%0A" * 1023
    row = f"<Contents><Key>{key}</Key><Size>1</Size><Owner><ID>1</ID><DisplayName>1</DisplayName></Owner></Contents>"
    prefix = f"<CommonPrefixes><Prefix>{key}</Prefix></CommonPrefixes>"
    page = parse_list(listing(row * 1000 + prefix * 1000))
    assert (len(page.objects), len(page.prefixes)) == (1000, 1000)


@given(bodies)
def test_any_listing_is_right_or_refused(body):
    """Random bytes never give anything but a page or a ProtocolError."""
    try:
        page = parse_list(body)
    except errors.ProtocolError:
        return
    assert all(row.key and row.meta.size >= 0 for row in page.objects)


@given(st.lists(st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20), max_size=5))
def test_every_key_survives_a_listing(keys):
    """Encoded by the service, decoded here: the same."""
    from urllib.parse import quote

    rows = "".join(f"<Contents><Key>{quote(key, safe='')}</Key><Size>1</Size></Contents>" for key in keys)
    assert [row.key for row in parse_list(listing(rows)).objects] == keys


LEAVES = st.sampled_from(
    [
        "<Key>a%2Fb</Key>", "<Key>%252F%2F%</Key>", "<Key> a &amp;</Key>", "<Key>日</Key>", "<Key></Key>",
        "<Key>a>b</Key>",
        "<Key>a\r\nb</Key>", "<Key a='1'>a</Key>", "<Key>&#65;</Key>", "<Key><![CDATA[<a>]]></Key>", "<Key>]]></Key>",
        "<LastModified>2026-11-21T05:45:47.000Z</LastModified>",
        "<LastModified>2026-11-21T05:45:47.120Z</LastModified>",
        "<LastModified>2026-W47-6T05:45:47.000Z</LastModified>",
        "<LastModified>2026-02-30T05:45:47.000Z</LastModified>",
        "<LastModified>2026-11-21T24:00:00.000Z</LastModified>", "<LastModified></LastModified>", "<LastModified/>",
        '<ETag>"5B3C1A2E053D763E1B002CC607C5A0FE"</ETag>', "<ETag>&quot;5B3C&quot;</ETag>",
        '<ETag>&quot; "5 &quot;</ETag>',
        "<ETag>''</ETag>", "<ETag>\x01</ETag>",
        "<Type>Appendable</Type>", "<Type>normal </Type>", "<Type></Type>",
        "<Size>0</Size>", "<Size> 7 </Size>", "<Size>999999999999999999</Size>", "<Size>9223372036854775809</Size>",
        "<StorageClass>Standard</StorageClass>", "<StorageClass>IA</StorageClass>",
        "<Owner><ID>1</ID><DisplayName>1</DisplayName></Owner>", "<Owner><Key>x</Key></Owner>",
        "<RestoreInfo>x</RestoreInfo>",
        "text", "\n  ", "\x0b", "<!-- c -->", "<Contents/>", "<Contents><Size>1</Size></Contents>", "</Contents>",
    ]
)  # fmt: skip
PLAIN = [
    "<Key>a%2Fb</Key>", "<LastModified>2026-11-21T05:45:47.000Z</LastModified>", '<ETag>"5B3C1A2E"</ETag>',
    "<Type>Appendable</Type>", "<Size>12</Size>", "<StorageClass>Standard</StorageClass>",
]  # fmt: skip


@st.composite
def almost_plain_listings(draw):
    """Rows as the service writes them, with a few things changed, put in or left out, anywhere."""
    rows = []
    for _ in range(draw(st.integers(0, 3))):
        leaves = list(PLAIN)
        for _ in range(draw(st.integers(0, 2))):
            place = draw(st.integers(0, len(leaves)))
            leaves[place : place + draw(st.integers(0, 1))] = [draw(LEAVES)]
        rows.append(f"<Contents>{draw(st.sampled_from(['', ' ', chr(10)])).join(leaves)}</Contents>")
    between = draw(st.sampled_from(["", "\n", "<!-- -->", "x", "<Owner>", "<?p <Contents>?>", "<!--"]))
    head = draw(st.sampled_from(["", "<Name>b</Name>", "<a>", "<Contents/>", "<!--", "<![CDATA[", "<?p", "<a b='"]))
    tail = draw(st.sampled_from(["", "<KeyCount>1</KeyCount>", "</a>", "<Contents/>", "-->", "]]>", "?>", "'/>"]))
    return listing(head + between.join(rows) + tail, encoding=draw(st.sampled_from(["url", ""])))


@given(almost_plain_listings())
def test_plain_rows_are_read_as_the_parser_reads_them(body):
    """The quick way and the parser's agree, in what they refuse as well."""

    def outcome():
        try:
            return parse_list(body)
        except errors.ProtocolError:
            return None

    quick = outcome()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(messages, "_cut_rows", lambda body: ([], body))
        assert outcome() == quick


def test_a_plain_listing_takes_the_quick_way():
    """Or a listing of many costs three times as much."""
    body = listing(f"<Contents>{''.join(PLAIN)}</Contents>\n" * 1000 + "<KeyCount>1000</KeyCount>")
    rows, rest = messages._cut_rows(body)
    assert (len(rows), rest.count(b"<Contents")) == (1000, 1)
    assert len(parse_list(body).objects) == 1000
