"""CRC-64/XZ: the published values, two independent engines, and the combination of parts."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import crcmod
import pytest
from fastcrc.crc64 import xz
from hypothesis import given
from hypothesis import strategies as st

from tailer.core import crc64

PUBLISHED = [
    (b"", 0),
    (b"123456789", 0x995DC9BBDF1939FA),
    (b"a", 3675645893302102789),
    (b"123", 3468660410647627105),
    (b"hello", 11177612005948864433),
    (b"hello world", 5981764153023615706),
    (b"\n", 2055911016213586788),
    (b"versioning test.", 16299703349316634018),
    (b"The quick brown fox jumps over the lazy dog", 6583902852472283588),
    (b"This is a test of the emergency broadcast system.", 0x27DB187FC15BBC72),
]

by_crcmod = crcmod.mkCrcFun(0x142F0E1EBA9EA3693, initCrc=0, rev=True, xorOut=2**64 - 1)
crcs = st.integers(0, 2**64 - 1)
lengths = st.integers(0, 2**50)


@pytest.mark.parametrize(("data", "expected"), PUBLISHED, ids=[str(data[:12]) for data, _ in PUBLISHED])
def test_published_values(data: bytes, expected: int) -> None:
    assert crc64.update(data) == by_crcmod(data) == xz(data) == expected


@given(st.binary(max_size=3000), crcs)
def test_the_engines_agree_from_any_crc_on(data: bytes, start: int) -> None:
    assert crc64.update(data, start) == by_crcmod(data, start) == xz(data, start)


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_an_update_goes_on_where_another_one_ended(a: bytes, b: bytes) -> None:
    assert crc64.update(b, crc64.update(a)) == crc64.update(a + b)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_bytes_like_object_is_summed(kind: type) -> None:
    assert crc64.update(kind(b"123456789")) == 0x995DC9BBDF1939FA


def test_a_slice_of_a_view_is_summed_without_its_surroundings() -> None:
    assert crc64.update(memoryview(b"xx123456789yy")[2:11]) == 0x995DC9BBDF1939FA


@given(st.binary(max_size=400), st.binary(max_size=400))
def test_combine_gives_the_crc_of_both_parts_together(a: bytes, b: bytes) -> None:
    expected = by_crcmod(a + b)
    assert crc64.combine(xz(a), xz(b), len(b)) == crc64.combine(by_crcmod(a), by_crcmod(b), len(b)) == expected


@given(crcs)
def test_combining_with_nothing_changes_nothing(crc: int) -> None:
    assert crc64.combine(crc, 0, 0) == crc
    assert crc64.combine(0, crc, 0) == crc


@given(crcs, crcs, crcs, lengths, lengths)
def test_combine_is_associative_far_beyond_what_can_be_read(a: int, b: int, c: int, m: int, n: int) -> None:
    """Lengths over 2**32, where a 32-bit exponent would go wrong."""
    assert crc64.combine(crc64.combine(a, b, m), c, n) == crc64.combine(a, crc64.combine(b, c, n), m + n)


def test_combine_agrees_with_the_crc_of_more_than_four_gibibytes_of_zeros() -> None:
    """The zeros' CRC is built by doubling a block that an engine summed."""
    size, zeros = 1 << 20, by_crcmod(bytes(1 << 20))
    while size <= 2**32:
        zeros, size = crc64.combine(zeros, zeros, size), size * 2
    before = crc64.combine(by_crcmod(b"head"), zeros, size)
    behind = crc64.combine(zeros, by_crcmod(b"tail"), 4)
    assert by_crcmod(b"tail", before) == crc64.combine(by_crcmod(b"head"), behind, size + 4)


def test_a_flipped_bit_changes_the_crc() -> None:
    data = bytearray(b"x" * 100)
    sums = {crc64.update(data)}
    for bit in range(800):
        data[bit // 8] ^= 1 << bit % 8
        sums.add(crc64.update(data))
        data[bit // 8] ^= 1 << bit % 8
    assert len(sums) == 801


@pytest.mark.parametrize(("missing", "engine"), [("", "fastcrc"), ("fastcrc", "crcmod")])
def test_the_engine_is_crcmod_where_fastcrc_is_missing(missing: str, engine: str) -> None:
    program = textwrap.dedent(
        f"""
        import sys
        if {missing!r}:
            sys.modules[{missing!r}] = None  # what an import of it does then: ImportError
        from tailer.core import crc64
        print(crc64.engine, "crcmod" in sys.modules, "fastcrc.crc64" in sys.modules)
        print(crc64.update(memoryview(b"56789"), crc64.update(bytearray(b"1234"))))
        """
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    is_crcmod = engine == "crcmod"
    assert done.stdout.split() == [engine, str(is_crcmod), str(not is_crcmod), str(0x995DC9BBDF1939FA)]
