"""Notifications of OSS, in every wrapping there is, and what is none."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailer.core.position import ObjectRef
from tailer.errors import UsageError
from tailer.web.hints import parse_hints, spellings


def event(key: str = "app.log", name: str = "ObjectCreated:AppendObject") -> dict[str, Any]:
    """As OSS documentation, "Event notification", has it."""
    return {
        "eventName": name,
        "eventSource": "acs:oss",
        "eventTime": "2026-11-21T10:00:00.000Z",
        "eventVersion": "1.0",
        "oss": {
            "bucket": {"arn": "acs:oss:cn-hangzhou:1:logs", "name": "logs", "ownerIdentity": "1"},
            "object": {"deltaSize": 5, "eTag": "0CC1", "key": key, "position": 10, "size": 15},
            "ossSchemaVersion": "1.0",
            "ruleId": "appended",
        },
        "region": "cn-hangzhou",
        "requestParameters": {"sourceIPAddress": "192.0.2.1"},
        "responseElements": {"requestId": "5FF1"},
        "userIdentity": {"principalId": "1"},
    }


def cloud_event(key: str = "app.log") -> dict[str, Any]:
    """As EventBridge documentation, "OSS events", has it."""
    return {
        "id": "45ef",
        "source": "acs.oss",
        "specversion": "1.0",
        "type": "oss:ObjectCreated:AppendObject",
        "subject": f"acs:oss:cn-hangzhou:1:logs/{key}",
        "data": event(key),
    }


def wrapped(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


PLAIN = json.dumps({"events": [event()]})
ENTITIES = PLAIN.replace('"', "&quot;")
XML = '<?xml version="1.0" encoding="utf-8"?>\n<Notification><TopicName>t</TopicName>{}</Notification>'
APP = [ObjectRef("logs", "app.log")]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(PLAIN, id="events"),
        pytest.param("\ufeff" + PLAIN, id="byte order mark"),
        pytest.param(wrapped(PLAIN), id="base64"),
        pytest.param(wrapped(PLAIN)[:76] + "\r\n" + wrapped(PLAIN)[76:] + "\n", id="base64 in lines"),
        pytest.param(json.dumps({"TopicName": "t", "Message": PLAIN}), id="envelope"),
        pytest.param(json.dumps({"TopicName": "t", "Message": wrapped(PLAIN)}), id="envelope with base64"),
        pytest.param(wrapped(json.dumps({"Message": wrapped(PLAIN)})), id="base64 of an envelope with base64"),
        pytest.param(XML.format(f"<Message>{wrapped(PLAIN)}</Message>"), id="XML with base64"),
        pytest.param(XML.format(f"<Message>{ENTITIES}</Message>"), id="XML with entities"),
        pytest.param(XML.format(f"<Message><![CDATA[{PLAIN}]]></Message>"), id="XML with CDATA"),
        pytest.param(json.dumps(cloud_event()), id="CloudEvent"),
        pytest.param(json.dumps([cloud_event(), cloud_event()]), id="CloudEvents"),
        pytest.param(json.dumps(event()), id="one event"),
        pytest.param(json.dumps([event()]), id="list of events"),
    ],
)
def test_every_wrapping_names_the_object(body: str) -> None:
    assert parse_hints(body.encode()) == APP


def test_each_object_is_named_once_in_its_order() -> None:
    body = json.dumps({"events": [event("b"), event("a"), event("b")]})
    assert parse_hints(body.encode()) == [ObjectRef("logs", "b"), ObjectRef("logs", "a")]


def test_events_of_reading_are_left_out() -> None:
    names = ["ObjectDownloaded:GetObject", "ObjectRemoved:DeleteObject"]
    body = json.dumps({"events": [event(name, name) for name in names]})
    assert parse_hints(body.encode()) == [ObjectRef("logs", "ObjectRemoved:DeleteObject")]


def test_no_events_are_no_mistake() -> None:
    assert parse_hints(b'{"events": []}') == []


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff\xfe", id="no text"),
        pytest.param(b"hello, world", id="words"),
        pytest.param(b"aGVsbG8", id="base64 cut short"),
        pytest.param(base64.b64encode(b"\xff" * 9), id="base64 of no text"),
        pytest.param(b"{", id="half"),
        pytest.param(b"null", id="null"),
        pytest.param(b"12", id="a number"),
        pytest.param(b'{"events": [{"oss": {"bucket": {"name": 1}, "object": {"key": "k"}}}]}', id="wrong type"),
        pytest.param(b'{"events": [1]}', id="an event that is a number"),
        pytest.param(b'[{"data": 1}]', id="data that is a number"),
        pytest.param(b'{"Message": 1}', id="a message that is a number"),
        pytest.param(b"[" * 200_000, id="brackets"),
        pytest.param(b"<a/>", id="XML without a message"),
        pytest.param(b"<Message>" * 29_000, id="XML that never ends"),
        pytest.param(b"A" + b" " * 260_000 + b"!", id="spaces"),
        pytest.param(b'{"events": ' + b"1" * 5000 + b"}", id="a very long number"),
    ],
)
def test_garbage_is_refused_in_one_line(body: bytes) -> None:
    with pytest.raises(UsageError, match="not a notification of OSS") as caught:
        parse_hints(body)
    assert "\n" not in str(caught.value)


def test_wrapping_has_an_end() -> None:
    body = PLAIN
    for _ in range(5):
        body = wrapped(body)
    with pytest.raises(UsageError, match="wrapped too often"):
        parse_hints(body.encode())


NAMES = st.sampled_from(["events", "data", "Message", "oss", "bucket", "object", "name", "key", "eventName"])
VALUES = st.recursive(st.none() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner))


@given(st.binary() | VALUES.map(lambda value: json.dumps(value).encode()))
def test_whatever_comes_is_read_or_refused(body: bytes) -> None:
    try:
        named = parse_hints(body)
    except UsageError:
        named = []
    assert all(isinstance(ref, ObjectRef) for ref in named)


def test_a_key_may_have_been_percent_encoded_by_the_sender() -> None:
    assert spellings(ObjectRef("b", "a%20b+c")) == [
        ObjectRef("b", "a%20b+c"),
        ObjectRef("b", "a b+c"),
        ObjectRef("b", "a b c"),
    ]
    assert spellings(ObjectRef("b", "plain")) == [ObjectRef("b", "plain")]
