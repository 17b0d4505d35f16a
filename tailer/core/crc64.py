"""CRC-64 as OSS states it in ``x-oss-hash-crc64ecma``.

It is the catalogued CRC-64/XZ: polynomial 0x42F0E1EBA9EA3693 (ECMA-182), reflected, initial value and
final xor 2**64 - 1; ``update(b"123456789") == 0x995DC9BBDF1939FA`` and the CRC of nothing is 0.

Two engines do the same sum: ``fastcrc`` where it is installed (it lets go of the GIL), ``crcmod``
otherwise. Neither of them combines, so `combine` is ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

_POLYNOMIAL = 0x142F0E1EBA9EA3693
_REFLECTED_POLYNOMIAL = 0xC96C5795D7870F42
_ALL_ONES = (1 << 64) - 1
_IDENTITY = 1 << 63


def _load_engine() -> tuple[str, Callable[..., int]]:
    """Name and function of the fastest engine that is installed."""
    try:
        from fastcrc.crc64 import xz
    except ImportError:
        import crcmod

        return "crcmod", crcmod.mkCrcFun(_POLYNOMIAL, initCrc=0, rev=True, xorOut=_ALL_ONES)
    return "fastcrc", xz


def update(data: Buffer, crc: int = 0) -> int:
    """The CRC-64 of what `crc` covers followed by `data`; ``update(a + b) == update(b, update(a))``."""
    return _engine(data, crc)


def combine(first: int, second: int, second_length: int) -> int:
    """The CRC-64 of A + B from those of A and B alone, where B is `second_length` bytes long.

    Appending a zero bit to the message multiplies its remainder by x in GF(2)[x]; so A's part is
    ``first * x**(8 * second_length)`` modulo the polynomial (the method of zlib's ``crc32_combine``).
    """
    return _multiply(first, _power_of_x(8 * second_length)) ^ second


def _multiply(a: int, b: int) -> int:
    """a * b modulo the polynomial, both in reflected form (bit 63 is the coefficient of x**0)."""
    product = 0
    while a:
        if a & _IDENTITY:
            product ^= b
        a = (a << 1) & _ALL_ONES
        b = (b >> 1) ^ _REFLECTED_POLYNOMIAL if b & 1 else b >> 1
    return product


def _power_of_x(exponent: int) -> int:
    """x**exponent modulo the polynomial, by squaring."""
    result, square = _IDENTITY, _IDENTITY >> 1
    while exponent:
        if exponent & 1:
            result = _multiply(result, square)
        square = _multiply(square, square)
        exponent >>= 1
    return result


engine, _engine = _load_engine()
