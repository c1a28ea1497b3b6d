"""Numbers of C and the bytes that they are: integers, pointers, enumerations, floating point.

Contents: the formats of x86, in both directions, and how gdb writes a floating-point number. Not
here: where the bytes come from (`values`), and what is written around a number (`value_text`).
"""

from __future__ import annotations

from decimal import Context, Decimal
from fractions import Fraction
from math import ceil, log10
from typing import NamedTuple

from rsp.errors import ExpressionError, ValueUnavailable
from rsp.symbols.types.types import Encoding, Enum, Float, Integer, Pointer, Type

MAX_SCALAR = 64
"""The largest number in bytes; a damaged file may claim any size."""


class Format(NamedTuple):
    """A binary floating-point format: IEEE 754's, or the x87's with its explicit integer bit."""

    exponent: int
    mantissa: int
    integer_bit: bool = False

    @property
    def digits(self) -> int:
        """How many digits tell all of its numbers apart: C's DECIMAL_DIG."""
        return ceil(1 + (self.mantissa + (not self.integer_bit)) * log10(2))


_X87 = Format(15, 64, integer_bit=True)
_QUAD = Format(15, 112)
# By size; long double is 12 bytes long on i386 and 16 on x86-64, of which 10 count.
_FORMATS = {2: Format(5, 10), 4: Format(8, 23), 8: Format(11, 52), 10: _X87, 12: _X87, 16: _X87}


class _Parts(NamedTuple):
    """A floating-point number taken apart; the exponent is as it is stored."""

    negative: bool
    exponent: int
    mantissa: int
    format: Format

    @property
    def special(self) -> bool:
        """Whether it is infinite, or no number."""
        return self.exponent == (1 << self.format.exponent) - 1

    @property
    def fraction(self) -> int:
        """The mantissa without an integer bit."""
        width = self.format.mantissa - self.format.integer_bit
        return self.mantissa & (1 << width) - 1

    @property
    def valid(self) -> bool:
        """Whether the x87 takes it for a number (Intel SDM volume 1, section 8.2.2)."""
        if not self.format.integer_bit or self.exponent == 0:
            return True
        return bool(self.mantissa >> self.format.mantissa - 1)

    @property
    def magnitude(self) -> Fraction:
        """The absolute value, exactly."""
        width = self.format.mantissa - self.format.integer_bit
        significand = self.mantissa
        if self.exponent and not self.format.integer_bit:
            significand |= 1 << width
        power = max(self.exponent, 1) - ((1 << self.format.exponent - 1) - 1) - width
        return Fraction(significand) * Fraction(2) ** power


def is_complex(ctype: Float) -> bool:
    """Return whether it is a pair of numbers."""
    return "complex" in (ctype.name or "").lower()


def _take_apart(ctype: Float, data: bytes) -> _Parts:
    """Return the parts of a number.

    Raises:
        ValueUnavailable: it is in no format of x86.
    """
    name = ctype.name or ""
    form = _QUAD if "128" in name and len(data) == 16 else _FORMATS.get(len(data))
    if form is None or "Decimal" in name:
        raise ValueUnavailable(f"{name or 'a floating-point number'}: its format is not known here")
    bits = int.from_bytes(data, "little")
    exponent = bits >> form.mantissa & (1 << form.exponent) - 1
    negative = bool(bits >> form.mantissa + form.exponent & 1)
    return _Parts(negative, exponent, bits & (1 << form.mantissa) - 1, form)


def float_text(ctype: Float, data: bytes) -> str:
    """Return a number as gdb writes it, with all digits that may count.

    >>> float_text(Float("double", 8), bytes.fromhex("9a9999999999b93f"))
    '0.10000000000000001'
    """
    if is_complex(ctype):
        half = len(data) // 2
        part = Float((ctype.name or "").replace("complex", "").strip(), half)
        return f"{float_text(part, data[:half])} + {float_text(part, data[half:])}i"
    parts = _take_apart(ctype, data)
    sign = "-" if parts.negative else ""
    if not parts.valid:
        return "<invalid float value>"
    if parts.special:
        return f"{sign}nan(0x{_mantissa_text(parts)})" if parts.fraction else f"{sign}inf"
    return sign + _general(parts.magnitude, parts.format.digits)


def _mantissa_text(parts: _Parts) -> str:
    """Return the bits of a NaN: gdb writes words of 32 bits, the first of what is left over."""
    low = (parts.format.mantissa - 1) // 32 * 32
    text = f"{parts.mantissa >> low:x}"
    while low:
        low -= 32
        text += f"{parts.mantissa >> low & 0xFFFFFFFF:08x}"
    return text


def _general(magnitude: Fraction, precision: int) -> str:
    """Return what C's ``%.{precision}g`` writes."""
    if not magnitude:
        return "0"
    context = Context(prec=precision, Emax=10**6, Emin=-(10**6))
    rounded = context.divide(Decimal(magnitude.numerator), Decimal(magnitude.denominator))
    exponent = rounded.adjusted()
    digits = "".join(map(str, rounded.as_tuple().digits)).rstrip("0")
    if not -4 <= exponent < precision:
        point = f".{digits[1:]}" if digits[1:] else ""
        return f"{digits[0]}{point}e{'-' if exponent < 0 else '+'}{abs(exponent):02}"
    if exponent < 0:
        return f"0.{'0' * (-exponent - 1)}{digits}"
    whole, rest = digits[: exponent + 1].ljust(exponent + 1, "0"), digits[exponent + 1 :]
    return f"{whole}.{rest}" if rest else whole


def is_scalar(ctype: Type) -> bool:
    """Return whether a type, without typedefs and qualifiers, is one number."""
    return isinstance(ctype, Integer | Enum | Pointer | Float)


def is_signed(ctype: Type) -> bool:
    """Return whether a type, without typedefs and qualifiers, has negative values."""
    return isinstance(ctype, Integer | Enum) and ctype.signed


def is_text(ctype: Type) -> bool:
    """Return whether gdb takes what has a type for a character: ``u8`` is one, too."""
    if isinstance(ctype.resolved, Integer) and ctype.size == 1:
        return ctype.resolved.encoding is not Encoding.BOOL
    return wide_prefix(ctype) != ""


def wide_prefix(ctype: Type) -> str:
    """Return what stands before the quote of a wide character; empty for others."""
    from rsp.symbols.types.types import MAX_CHAIN, Alias

    for _ in range(MAX_CHAIN):
        if ctype.name in _WIDE and ctype.size in (2, 4):
            return _WIDE[ctype.name]
        if not isinstance(ctype, Alias):
            break
        ctype = ctype.target
    return ""


_WIDE: dict[str | None, str] = {"wchar_t": "L", "char16_t": "u", "char32_t": "U"}


def decode(ctype: Type, data: bytes) -> int | float:
    r"""Return the number that the bytes of a type are.

    Raises:
        ExpressionError: the type is none of a number.

    >>> decode(Integer("short", 2, signed=True), b"\xfe\xff")
    -2
    """
    bare = ctype.resolved
    if isinstance(bare, Float):
        if is_complex(bare):
            raise ExpressionError(f"{ctype} is two numbers")
        parts = _take_apart(bare, data)
        sign = -1.0 if parts.negative else 1.0
        if parts.special or not parts.valid:
            return float("nan") if parts.fraction or not parts.valid else sign * float("inf")
        try:
            return sign * float(parts.magnitude)
        except OverflowError:  # a long double has more room than a float of Python
            return sign * float("inf")
    if not is_scalar(bare):
        raise ExpressionError(f"{ctype} is no number: ask for a member or an element of it")
    return int.from_bytes(data, "little", signed=is_signed(bare))


def encode(ctype: Type, number: float) -> bytes:
    """Return the bytes of a number in a type, cut off as a cast does.

    Raises:
        ExpressionError: the type is none of a number, or has no size.
    """
    bare, size = ctype.resolved, ctype.size
    if not is_scalar(bare) or size is None or size > MAX_SCALAR:
        raise ExpressionError(f"a number cannot be made a {ctype}")
    if isinstance(bare, Float):
        return _encode_float(bare, number, size)
    if isinstance(number, float) and (number != number or abs(number) == float("inf")):
        number = 0
    if isinstance(bare, Integer) and bare.encoding is Encoding.BOOL:
        number = number != 0
    return (int(number) & (1 << 8 * size) - 1).to_bytes(size, "little")


def _encode_float(ctype: Float, number: float, size: int) -> bytes:
    form = _take_apart(ctype, bytes(size)).format
    negative = float(number) < 0 or str(float(number)).startswith("-")
    width = form.mantissa - form.integer_bit
    bias = (1 << form.exponent - 1) - 1
    if number != number or abs(number) == float("inf"):
        exponent = (1 << form.exponent) - 1
        mantissa = (number != number) << width - 1 | form.integer_bit << width
    else:
        exact = abs(Fraction(number))
        power = _power(exact) if exact else 0
        power = max(power, 1 - bias)
        significand = round(exact / Fraction(2) ** (power - width))
        if significand >> width + 1:  # rounded up to the next power of two
            significand, power = significand >> 1, power + 1
        exponent = power + bias if significand >> width else 0
        mantissa = significand if form.integer_bit else significand & (1 << width) - 1
        if exponent >= (1 << form.exponent) - 1:
            return _encode_float(ctype, float("-inf") if negative else float("inf"), size)
    bits = (negative << form.exponent | exponent) << form.mantissa | mantissa
    return bits.to_bytes(size, "little")


def _power(exact: Fraction) -> int:
    """Return the power of two that a number is at least."""
    power = exact.numerator.bit_length() - exact.denominator.bit_length()
    return power if exact >= Fraction(2) ** power else power - 1
