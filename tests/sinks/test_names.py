"""Names below a mirror folder: inside it, one for one object, and back again."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tailer.core.position import ObjectRef
from tailer.errors import SinkError
from tailer.sinks.names import mirror_path, mirrored_object, segments_path

SEGMENTS = st.one_of(
    st.sampled_from(["", ".", "..", "%", "%2F", "a", "a%", "~", "a:b", "%+", "\0", "…" * 90, "\x1b[2J"]),
    st.text(max_size=8),
)
KEYS = st.one_of(st.lists(SEGMENTS, min_size=1, max_size=5).map("/".join), st.text(min_size=1, max_size=400))
REFS = st.builds(
    ObjectRef,
    bucket=st.one_of(st.just("b"), st.text(st.characters(exclude_characters="/"), min_size=1, max_size=9)),
    key=KEYS,
    scheme=st.sampled_from(["oss", "https", "http"]),
)


def below(ref: ObjectRef) -> str:
    """The path of `ref` below an empty folder, relative to it."""
    return str(mirror_path("/nowhere/at/all", ref).relative_to("/nowhere/at/all"))


@pytest.mark.parametrize(
    ("ref", "path"),
    [
        (ObjectRef("b", "logs/2026/app.log"), "b/logs/2026/app.log"),
        (ObjectRef("b", ".hidden"), "b/.hidden"),
        (ObjectRef("b", "日志/app log+1.txt"), "b/日志/app log+1.txt"),
        (ObjectRef("b", "a//b"), "b/a/%2F/b"),
        (ObjectRef("b", "/a/"), "b/%2F/a/%2F"),
        (ObjectRef("b", "../../etc/passwd"), "b/%2E%2E/%2E%2E/etc/passwd"),
        (ObjectRef("b", "./a/..."), "b/%2E/a/..."),
        (ObjectRef("b", "100%"), "b/100%25"),
        (ObjectRef("b", "%2E%2E/a"), "b/%252E%252E/a"),
        (ObjectRef("b", "a\nb\x1b[31m\x7f\x9b"), "b/a%0Ab%1B[31m%7F%C2%9B"),
        (ObjectRef("..", "a"), "%2E%2E/a"),
        (ObjectRef("../..", "a"), "..%2F../a"),
        (ObjectRef("h.example:8443", "a", "https"), "https:h.example:8443/a"),
        (ObjectRef("https:h", "a"), "https%3Ah/a"),
        (ObjectRef("b", "x" * 251), f"b/{'x' * 250}%+/x"),
        (ObjectRef("b", "é" * 126 + "/z"), f"b/{'é' * 125}%+/é/z"),
    ],
)
def test_the_name_of_an_object_is_its_key_with_what_is_risky_escaped(ref: ObjectRef, path: str) -> None:
    assert below(ref) == path
    assert mirrored_object("/m", f"/m/{path}") == ref


@given(REFS)
@example(ObjectRef("b", "\ud800/" + "\x01" * 340))
def test_no_name_leaves_the_folder_or_is_too_long(ref: ObjectRef) -> None:
    parts = below(ref).split("/")
    assert len(parts) >= 2
    assert not {"", ".", ".."} & set(parts)
    assert all(len(part.encode()) <= 255 - len("%") for part in parts)
    assert not any(ord(character) < 32 or 0x7F <= ord(character) < 0xA0 for part in parts for character in part)


@given(REFS)
def test_a_path_leads_back_to_its_object_so_no_two_objects_share_one(ref: ObjectRef) -> None:
    assert mirrored_object("/m", f"/m/{below(ref)}") == ref


@given(st.lists(st.lists(st.sampled_from("ab"), min_size=1, max_size=4).map("/".join), min_size=1, max_size=9))
def test_keys_that_are_both_file_and_folder_have_files_of_their_own_in_any_order(keys: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = {}
        for key in keys:
            path = mirror_path(folder, ObjectRef("b", key))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            assert paths.setdefault(key, path) == path, "another place on a second look"
            assert mirrored_object(folder, path).key == key
        assert len(set(paths.values())) == len(paths)


def test_a_folder_in_the_way_gives_the_file_a_mark_and_the_other_way_round(tmp_path: Path) -> None:
    (tmp_path / "b/a").mkdir(parents=True)
    (tmp_path / "b/c").touch()
    assert mirror_path(tmp_path, ObjectRef("b", "a")) == tmp_path / "b/a%"
    assert mirror_path(tmp_path, ObjectRef("b", "c/d")) == tmp_path / "b/c%/d"


def test_a_link_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "b").symlink_to("/")
    with pytest.raises(SinkError, match=r"'.*/b': a symbolic link, which could lead out of the folder"):
        mirror_path(tmp_path, ObjectRef("b", "etc/passwd"))


def test_a_path_that_the_system_finds_too_long_is_one_plain_error(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="File name too long"):
        mirror_path(tmp_path / ("x" * 300), ObjectRef("b", "a"))


DIGITS = "0" * 20
SEGMENT_LIKE = st.lists(st.sampled_from(["a", f"a.{DIGITS}", "%"]), min_size=1, max_size=3).map("/".join)


@given(st.lists(SEGMENT_LIKE, min_size=1, max_size=9), st.booleans())
def test_segments_of_any_objects_are_files_of_their_own_in_any_order(keys: list[str], again: bool) -> None:
    """A key may look like the name of a segment, or of a folder above one."""
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for key in [*keys, *(reversed(keys) if again else ())]:
            path = segments_path(folder, ObjectRef("b", key))
            path.parent.mkdir(parents=True, exist_ok=True)
            segment = path.with_name(f"{path.name}.{DIGITS}")
            segment.touch()
            assert files.setdefault(key, segment) == segment, "another place on a second look"
            assert mirrored_object(folder, path).key == key
        assert len(set(files.values())) == len(files)


@given(REFS)
def test_a_name_of_segments_leaves_room_for_generation_and_digits(ref: ObjectRef) -> None:
    path = segments_path("/nowhere/at/all", ref)
    assert mirrored_object("/nowhere/at/all", path) == ref
    assert len(f"{path.name}%g999999999.{DIGITS}".encode()) <= 255
    assert len(f"{path.name}%g999999999%ok".encode()) <= 255
