"""PE images (EFI, Windows) with DWARF, as the ELF file that has the same in it.

Contents: the layout of PE and COFF headers, and what becomes of each in ELF: sections at their
addresses, and the COFF symbols as a .symtab. All else in `rsp.symbols` so knows ELF alone. Not
here: debugging information of Microsoft's own (PDB, CodeView), which is not read.

The headers are read by `struct`, as those of ELF are (see `image`): `pefile` does not read the COFF
symbols, nor the long names of sections, without which there is no .debug_info.

Source: Microsoft's "PE Format", and binutils for what is not in it: GNU's long names of sections in
images.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from rsp.errors import BadImage
from rsp.symbols.elf.headers import FILE_HEADERS, SECTION_HEADERS, SYMBOL_SIZES

if TYPE_CHECKING:
    import mmap
    from collections.abc import Iterator

_MACHINES: Final = {0x8664: 62, 0x14C: 3}  # to e_machine
_WORDS: Final = {0x20B: 8, 0x10B: 4}  # the optional header's magic to the size of an address
_COFF: Final = struct.Struct("<HHIIIHH")
_SECTION: Final = struct.Struct("<8sIIIIIIHHI")
_SYMBOL: Final = struct.Struct("<8sIhHBB")
_SIGNATURE: Final = b"PE\0\0"

_EXECUTABLE, _WRITABLE = 0x20000000, 0x80000000  # IMAGE_SCN_MEM_*
_EXTERNAL, _STATIC, _WEAK = 2, 3, 105  # IMAGE_SYM_CLASS_*
_FUNCTION: Final = 0x20  # in a symbol's type
_ABSOLUTE: Final = -1

_SHN_ABS: Final = 0xFFF1
_BINDINGS: Final = {_EXTERNAL: 1, _STATIC: 0, _WEAK: 2}


class _Part(NamedTuple):
    """A section, as ELF has it."""

    name: bytes
    type: int
    flags: int
    address: int
    size: int
    data: bytes
    link: int = 0
    info: int = 0
    entry_size: int = 0


def as_elf(data: mmap.mmap, path: str) -> bytes | None:
    """Return the ELF file of a PE image; None where it has neither DWARF nor symbols.

    Args:
        data: the image, which begins with "MZ".
        path: of the file, for messages.

    Raises:
        BadImage: it is damaged, or for another machine.
    """
    try:
        return _as_elf(data, path)
    except struct.error:
        raise BadImage(
            f"{path}: a PE image that ends within its headers: was it copied to its end?", path=path
        ) from None


def _as_elf(data: mmap.mmap, path: str) -> bytes | None:
    at = int.from_bytes(data[0x3C:0x40], "little") + len(_SIGNATURE)
    machine, count, _, symbols_at, symbols, optional, _ = _COFF.unpack_from(data, at)
    if machine not in _MACHINES:
        raise BadImage(
            f"{path}: a PE image for another machine ({machine:#x}), not for x86", path=path
        )
    at += _COFF.size
    (magic,) = struct.unpack_from("<H", data, at)
    word = _WORDS.get(magic)
    if word is None:
        raise BadImage(f"{path}: a PE image without its optional header", path=path)
    (start,) = struct.unpack_from("<I", data, at + 16)
    (base,) = struct.unpack_from("<Q" if word == 8 else "<I", data, at + (24 if word == 8 else 28))
    strings = symbols_at + _SYMBOL.size * symbols if symbols_at else len(data)
    parts: list[_Part] = []
    left = 2 * len(data)
    for each in range(count):
        parts.append(_part(data, strings, base, at + optional + _SECTION.size * each))
        left -= len(parts[-1].data)
        if left < 0:  # hostile: what overlaps would cost more than the file's size
            raise BadImage(f"{path}: a PE image whose sections overlap", path=path)
    table = list(_symbols(data, symbols_at, strings, parts, word)) if symbols_at else []
    if not table and not any(part.name.startswith(b".debug_") for part in parts):
        return None
    # Local ones come first, and their number is in the header (System V ABI, "Symbol Table").
    table.sort(key=lambda each: each[0] != 0)
    local = 1 + sum(binding == 0 for binding, _, _ in table)
    names = bytearray(b"\0")
    entries = bytearray(SYMBOL_SIZES[word])
    places: dict[bytes, int] = {}
    for _, name, entry in table:
        if name not in places:
            places[name] = len(names)
            names += name + b"\0"
            if len(names) > 2 * len(data):
                raise BadImage(f"{path}: a PE image whose symbols' names overlap", path=path)
        entries += struct.pack("<I", places[name]) + entry
    link = len(parts) + 2
    size = SYMBOL_SIZES[word]
    parts.append(_Part(b".symtab", 2, 0, 0, len(entries), bytes(entries), link, local, size))
    parts.append(_Part(b".strtab", 3, 0, 0, len(names), bytes(names)))
    return _file(parts, word, _MACHINES[machine], base + start & (1 << 8 * word) - 1)


def _part(data: mmap.mmap, strings: int, base: int, at: int) -> _Part:
    short, size, address, in_file, offset, _, _, _, _, flags = _SECTION.unpack_from(data, at)
    name = short.rstrip(b"\0")
    if name[:1] == b"/" and name[1:].isdigit():
        name = _text(data, strings + int(name[1:]))
    name = {b".eh_fram": b".eh_frame"}.get(name, name)  # of linkers that know no long names
    # What is behind its size is there to fill a block.
    kept = min(size or in_file, in_file)
    content = data[offset : offset + kept] if offset else b""
    loaded = not name.startswith((b".debug_", b".zdebug_"))
    kind = 1 if content or not loaded else 8  # SHT_PROGBITS, SHT_NOBITS
    bits = loaded * (2 | bool(flags & _WRITABLE) | 4 * bool(flags & _EXECUTABLE))
    whole = len(content) if kind == 1 else size
    return _Part(name, kind, bits, (base + address) * loaded, whole, content)


def _symbols(
    data: mmap.mmap, begin: int, strings: int, parts: list[_Part], word: int
) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield the binding, the name and the rest of the ELF entry of what has a place or a number."""
    at, end = begin, min(strings, len(data) - _SYMBOL.size + 1)
    while at < end:
        short, value, number, kind, storage, more = _SYMBOL.unpack_from(data, at)
        at += _SYMBOL.size * (1 + more)
        binding = _BINDINGS.get(storage)
        if binding is None or (storage == _STATIC and more):  # a section
            continue
        if 1 <= number <= len(parts):
            value += parts[number - 1].address
            section = number
        elif number == _ABSOLUTE:
            section = _SHN_ABS
        else:
            continue
        name = short.rstrip(b"\0")
        if short[:4] == b"\0\0\0\0":
            name = _text(data, strings + int.from_bytes(short[4:], "little"))
        # objcopy sets no types; what others may call is a function.
        called = storage == _EXTERNAL and section <= len(parts) and parts[section - 1].flags & 4
        info = binding << 4 | (2 if called or kind & 0xF0 == _FUNCTION else 0)
        if word == 8:
            yield binding, name, struct.pack("<BBHQQ", info, 0, section, value, 0)
        else:
            yield binding, name, struct.pack("<IIBBH", value & 0xFFFFFFFF, 0, info, 0, section)


def _text(data: mmap.mmap, at: int) -> bytes:
    end = data.find(b"\0", at, at + (1 << 16))
    return data[at:end] if end >= 0 else b""


def _file(parts: list[_Part], word: int, machine: int, entry: int) -> bytes:
    header, row = FILE_HEADERS[word], SECTION_HEADERS[word]
    names = bytearray(b"\0")
    out = bytearray(header.size)
    rows = [row.pack(*[0] * 10)]
    parts = [*parts, _Part(b".shstrtab", 3, 0, 0, 0, b"")]
    for part in parts:
        name = len(names)
        names += part.name + b"\0"
        content = part.data if part is not parts[-1] else bytes(names)
        size = part.size if part is not parts[-1] else len(content)
        place = part.flags, part.address, len(out), size
        rows.append(row.pack(name, part.type, *place, part.link, part.info, 1, part.entry_size))
        out += content
    ident = b"\x7fELF" + bytes([word // 4, 1, 1])
    table = row.size, len(rows), len(parts)
    out[: header.size] = header.pack(
        ident, 3, machine, 1, entry, 0, len(out), 0, header.size, 0, 0, *table
    )
    return bytes(out) + b"".join(rows)
