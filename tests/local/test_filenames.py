"""Keys to paths and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailer.local.filenames import key_of, path_of

KEYS = st.text(alphabet=st.sampled_from("a./%~2E5\x00\n\x7fé日\\ 7F"), min_size=1, max_size=30) | st.text(
    st.characters(exclude_categories=["Cs"]), min_size=1, max_size=400
)


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("logs/app.log", "logs/app.log"),
        ("100%.log", "100%.log"),
        ("a%41", "a%41"),
        ("a//b", "a/%/b"),
        ("a/", "a/%"),
        ("..", "%2E%2E"),
        ("a/./b", "a/%2E/b"),
        ("...", "..."),
        ("a\nb", "a%0Ab"),
        ("a%0Ab", "a%250Ab"),
        ("%", "%25"),
        ("a%~", "a%25~"),
        ("x" * 300, "x" * 240 + "%~/" + "x" * 60),
        ("日" * 100, "日" * 80 + "%~/" + "日" * 20),
    ],
)
def test_known_paths(key: str, path: str) -> None:
    """The plain ones are themselves."""
    assert path_of(key) == path
    assert key_of(path) == key


@given(KEYS.filter(lambda key: key[0] not in "/\\" and len(key.encode()) <= 1023))
def test_every_key_has_a_safe_path_of_its_own(key: str) -> None:
    """Relative, without . and .., no segment too long, and it leads back to the key."""
    path = path_of(key)
    assert key_of(path) == key
    for segment in path.split("/"):
        assert segment not in ("", ".", "..")
        assert len(segment.encode()) <= 255
        assert "\x00" not in segment


NAMES = st.text(alphabet="a.%~025EF\n", min_size=1, max_size=8).filter(lambda name: name not in (".", ".."))


@given(st.lists(NAMES, min_size=1, max_size=4).map("/".join))
def test_a_path_has_one_key_or_none(path: str) -> None:
    """What this mapping never writes is no object, so that two files are never one key."""
    key = key_of(path)
    assert key is None or path_of(key) == path


@pytest.mark.parametrize("path", ["a%25b", "%2E", "a/%2E", "x%~/y", "\\a", "a\udcff", "a" * 2000])
def test_paths_that_are_no_object(path: str) -> None:
    """They are skipped, as is a name that is no UTF-8."""
    key = key_of(path)
    assert key is None or (path == "%2E" and key == ".") or (path == "a/%2E" and key == "a/.")
