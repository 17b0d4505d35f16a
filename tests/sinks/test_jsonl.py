"""`--json`: what is printed is what docs/json.schema.json and docs/json.md promise, byte for byte reversible."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tailer.core.crc64 import update
from tailer.core.events import (
    Appeared,
    Batch,
    Event,
    Failed,
    Gone,
    Grew,
    Replaced,
    Rewound,
    Sealed,
    Truncated,
    Unconfirmed,
    Unproven,
    Verified,
)
from tailer.core.position import Claim, ObjectMeta, ObjectRef, Position
from tailer.errors import ConnectionLost, ObjectNotFound, Throttled
from tailer.sinks.jsonl import JsonLines, encode, encode_failure

DOCS = Path(__file__).parents[2] / "docs"
SCHEMA = json.loads((DOCS / "json.schema.json").read_text())
REF = ObjectRef("logs", "app.log")
HOSTILE = ObjectRef("b", 'a"\n\x1b[31m\x9b\u202e\\日#0:1-2')
THROTTLED = Throttled("slow down", status=503, code="RequestLimited", request_id="6A", retry_after=2.0)

EVENTS: list[Event] = [
    Verified(Position(12, update(b"hello"), 1, Claim(2, 3, 4, 5))),
    Verified(Position(12, None, 0)),
    Rewound(0, 5, 12),
    Unconfirmed(0, 5, 12),
    Appeared(0, ObjectMeta(12)),
    Replaced(1, "its type was Appendable and is Normal"),
    Truncated(1, 12, 3),
    Truncated(1, 12, None),
    Gone(0, 12),
    Sealed(12),
    Unproven(0, 0),
    Failed(THROTTLED, 2.5, 1),
    Failed(ConnectionLost("cut at 12 of 20 bytes"), 0.0, 3),
]


def batch(data: bytes, *, start: int = 0, delimiter: bytes | None = b"\n", **changes: Any) -> Batch:
    ref = changes.pop("ref", REF)
    settings: dict[str, Any] = {"verified": True, "delimiter": delimiter, **changes}
    return Batch(ref, 0, start, start + len(data), data, **settings)


def lines(encoded: bytes) -> list[dict[str, Any]]:
    assert encoded == b"" or encoded.endswith(b"\n")
    return [json.loads(line) for line in encoded.decode().split("\n")[:-1]]


def data_of(record: dict[str, Any]) -> bytes:
    return record["data"].encode() if "data" in record else base64.b64decode(record["data_base64"])


# --- a checker for the part of JSON Schema that the schema uses

CHECKED = {"$ref", "type", "const", "pattern", "minimum", "properties", "required", "oneOf", "contentEncoding"}
TYPES = {"object": dict, "string": str, "integer": int, "number": (int, float), "boolean": bool, "null": type(None)}


def problems(value: object, schema: dict[str, Any]) -> list[str]:
    """Why `value` is not what `schema` says; empty when it is. An unknown field is a problem here."""
    assert set(schema) <= CHECKED | {"$schema", "$id", "title", "$defs"}, "a keyword that is not checked"
    if "$ref" in schema:
        return problems(value, SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")])
    found = [f"{value!r} is not {schema['const']!r}"] if "const" in schema and value != schema["const"] else []
    if "type" in schema and not is_of_type(value, schema["type"]):
        return [*found, f"{value!r} is no {schema['type']}"]
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        found.append(f"{value!r} does not match {schema['pattern']}")
    if isinstance(value, int | float) and value < schema.get("minimum", value):
        found.append(f"{value} is too small")
    if isinstance(value, dict):
        found += problems_of_fields(value, schema)
    if "oneOf" in schema:
        matching = [choice for choice in schema["oneOf"] if not problems(value, choice)]
        found += [] if len(matching) == 1 else [f"{len(matching)} choices match {value!r}"]
    return found


def is_of_type(value: object, names: str | list[str]) -> bool:
    wanted = [names] if isinstance(names, str) else names
    return any(isinstance(value, TYPES[name]) and (name == "boolean" or not isinstance(value, bool)) for name in wanted)


def problems_of_fields(value: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    found = [f"{name} is missing" for name in schema.get("required", []) if name not in value]
    for name, inner in value.items() if "properties" in schema else ():
        known = schema["properties"].get(name)
        found += [f"{name} is unknown"] if known is None else problems(inner, known)
    return found


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"type": "sealed", "object": "oss://b/k"},
        {"type": "sealed", "object": "oss://b/k", "size": -1},
        {"type": "sealed", "object": "oss://b/k", "size": True},
        {"type": "sealed", "object": "oss://b/k", "size": 1, "more": 1},
        {"type": "sealed", "object": "/b/k", "size": 1},
        {"type": "seal", "object": "oss://b/k", "size": 1},
    ],
)
def test_the_checker_sees_what_is_wrong(wrong: dict[str, Any]) -> None:
    assert problems(wrong, SCHEMA)


# --- output against schema and page


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
@pytest.mark.parametrize("ref", [REF, HOSTILE])
def test_the_line_of_an_event_is_as_the_schema_says(event: Event, ref: ObjectRef) -> None:
    (line,) = lines(encode(ref, event))
    assert problems(line, SCHEMA) == []
    assert line["object"] == str(ref)
    assert line["type"] == type(event).__name__.lower()


def test_every_event_has_a_line_in_the_schema_and_is_tried_here() -> None:
    kinds = {kind.__name__.lower() for kind in get_args(Event)} - {"grew", "batch"}
    assert {type(event).__name__.lower() for event in EVENTS} == kinds
    assert set(SCHEMA["$defs"]) - {"object", "count"} == kinds | {"record"}
    assert {choice["$ref"] for choice in SCHEMA["oneOf"]} == {f"#/$defs/{kind}" for kind in (*kinds, "record")}


def test_the_page_names_every_type_and_field_of_the_schema() -> None:
    page = (DOCS / "json.md").read_text()
    for kind in set(SCHEMA["$defs"]) - {"object", "count"}:
        for name in (kind, *SCHEMA["$defs"][kind]["properties"]):
            assert f"`{name}`" in page, name


def test_the_example_on_the_page_is_real_output() -> None:
    data = b"hello, tail\n"
    printed = encode(REF, batch(data)) + encode(REF, Verified(Position(12, update(data))))
    assert printed.decode() in (DOCS / "json.md").read_text()


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            EVENTS[0],
            '{"type":"verified","object":"oss://logs/app.log","generation":1,"offset":12,'
            f'"crc64":"{update(b"hello")}","unproven":3}}\n',
        ),
        (
            Failed(THROTTLED, 2.5, 1),
            '{"type":"failed","object":"oss://logs/app.log","error":"Throttled","message":"RequestLimited: '
            'slow down [status 503, request id 6A]","status":503,"code":"RequestLimited","request_id":"6A",'
            '"delay":2.5,"attempt":1}\n',
        ),
        (Rewound(0, 5, 12), '{"type":"rewound","object":"oss://logs/app.log","generation":0,"to":5,"end":12}\n'),
        (Grew(0, 1, 2), ""),
    ],
)
def test_lines_of_events(event: Event, line: str) -> None:
    assert encode(REF, event).decode() == line


def test_the_error_that_ends_it_is_a_failure_without_a_next_try() -> None:
    error = ObjectNotFound("no such key", status=404, code="NoSuchKey", request_id="6B")
    (line,) = lines(encode_failure(REF, error))
    assert problems(line, SCHEMA) == []
    assert (line["delay"], line["attempt"], line["code"]) == (None, None, "NoSuchKey")


# --- records


@pytest.mark.parametrize(
    ("given_batch", "records"),
    [
        (batch(b""), []),
        (batch(b"\n"), [(0, 1, b"", True, True)]),
        (batch(b"a\n\nb", start=7), [(7, 9, b"a", True, True), (9, 10, b"", True, True), (10, 11, b"b", True, True)]),
        (batch(b"a\0b\n\0", delimiter=b"\0"), [(0, 2, b"a", True, True), (2, 5, b"b\n", True, True)]),
        (batch(b"a\r\n\xff\n"), [(0, 3, b"a\r", True, True), (3, 5, b"\xff", True, True)]),
        (batch(b"a\nb", delimiter=None), [(0, 3, b"a\nb", True, True)]),
        (batch(b"end\nof", first=False, last=False), [(0, 4, b"end", False, True), (4, 6, b"of", True, False)]),
        (batch(b"abcde\nf\n", limit=2), [
            (0, 2, b"ab", True, False), (2, 4, b"cd", False, False), (4, 6, b"e", False, True),
            (6, 8, b"f", True, True),
        ]),
    ],
)  # fmt: skip
def test_records_have_the_places_and_bytes_of_the_batch(
    given_batch: Batch, records: list[tuple[int, int, bytes, bool, bool]]
) -> None:
    found = lines(encode(REF, given_batch))
    assert [problems(line, SCHEMA) for line in found] == [[]] * len(records)
    assert [(r["start"], r["end"], data_of(r), r["first"], r["last"]) for r in found] == records
    assert [r["id"] for r in found] == [f"oss://logs/app.log#0:{start}-{end}" for start, end, *_ in records]


@given(
    st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode)),
    st.sampled_from([b"\n", b"\0", None]),
    st.booleans(),
    st.booleans(),
    st.integers(1, 9),
    st.sampled_from([REF, HOSTILE]),
)
@example(
    b"a\x7f\xc2\x85b\xe2\x80\xa8c\xe2\x80\xae\xd8\x9c\xe2\x81\xa6\n\\u2028 \xe2\x9c\x94", b"\n", True, True, 9, REF
)
def test_any_bytes_come_back_and_agree_with_the_batchs_own_records(
    data: bytes, delimiter: bytes | None, first: bool, last: bool, limit: int, ref: ObjectRef
) -> None:
    given_batch = batch(data, start=5, delimiter=delimiter, first=first, last=last, limit=limit, ref=ref)
    encoded = encode(ref, given_batch)
    found = lines(encoded)
    assert [problems(line, SCHEMA) for line in found] == [[]] * len(found)
    assert [(r["start"], r["end"], data_of(r), r["first"], r["last"]) for r in found] == [
        (r.start, r.end, r.data, r.first, r.last) for r in given_batch.records
    ]
    assert {(r["object"], r["verified"]) for r in found} <= {(str(ref), True)}


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
@example("\x1b[2J\x9b31m\u2028\u202e\x7f\x85")
def test_nothing_that_a_terminal_obeys_is_printed_raw(text: str) -> None:
    ref = ObjectRef("b", text)
    printed = encode(ref, batch(text.encode(), ref=ref)) + encode(ref, Replaced(1, text))
    assert not re.search("[\0-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]", printed.decode())


def test_views_and_bytearrays_are_taken_as_they_are() -> None:
    whole = batch(b"a\nb\n")
    for view in (bytearray(b"a\nb\n"), memoryview(b"a\nb\n")):
        assert encode(REF, Batch(REF, 0, 0, 4, view, verified=True, delimiter=b"\n")) == encode(REF, whole)


# --- the sink


def test_the_sink_writes_a_batch_at_once_and_nothing_for_what_has_no_line() -> None:
    written: list[bytes] = []

    async def take(line: bytes) -> None:
        written.append(line)

    async def run() -> None:
        sink = JsonLines(REF, take)
        await sink.write(batch(b"a\nb\n"))
        await sink.notice(Grew(0, 0, 4))
        await sink.notice(Sealed(4))
        await sink.close()

    asyncio.run(run())
    assert [piece.count(b"\n") for piece in written] == [2, 1]
