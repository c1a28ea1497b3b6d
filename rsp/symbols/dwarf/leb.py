"""Numbers of variable length: LEB128 (DWARF 5, section 7.6)."""

from __future__ import annotations

MAX_BYTES = 10  # hold 64 bits


def uleb(data: bytes, position: int) -> tuple[int, int]:
    r"""Return an unsigned number and where it ends.

    Raises:
        IndexError: the data end before.
        ValueError: it has more than 64 bits.

    >>> uleb(b"\xe5\x8e\x26", 0)
    (624485, 3)
    """
    byte = data[position]
    if byte < 0x80:
        return byte, position + 1
    value = byte & 0x7F
    for index in range(1, MAX_BYTES):
        byte = data[position + index]
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, position + index + 1
    raise ValueError("a LEB128 number of more than 64 bits")


def sleb(data: bytes, position: int) -> tuple[int, int]:
    r"""Return a signed number and where it ends; it raises as `uleb` does.

    >>> sleb(b"\x80\x7f", 0)
    (-128, 2)
    """
    value, end = uleb(data, position)
    bits = 7 * (end - position)
    return (value - (1 << bits) if value >> (bits - 1) else value), end


def uleb_bytes(value: int) -> bytes:
    r"""Return an unsigned number as LEB128.

    >>> uleb_bytes(624485)
    b'\xe5\x8e&'
    """
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
