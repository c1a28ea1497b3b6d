"""Registers and the layouts they are sent in.

Contents: what a register is (`Register`), names made of parts of registers (`SubRegister`), and
`RegisterLayout`, the one object that drives decoding, encoding, offsets in ``g``, numbers of ``p``
and DWARF numbers. Not here: the registers of a CPU (``i386``, ``x86_64``) and who sends which
layout (``layouts``).

A register's value is an unsigned int at the register's own width, or None where the stub does not
give it.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from rsp import arguments
from rsp.errors import LocalProtocolError, RegisterUnavailable, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_STRUCT_CODES = {1: "B", 2: "H", 4: "I", 8: "Q"}


class Role(Enum):
    """What a register is for; generic code asks for roles, not for names."""

    PC = "pc"
    SP = "sp"
    FP = "fp"
    FLAGS = "flags"
    CODE_SEGMENT = "code segment"
    STACK_SEGMENT = "stack segment"
    RETURN_VALUE = "return value"


class Kind(Enum):
    """What the bits of a register are."""

    INTEGER = "integer"
    CODE_POINTER = "code pointer"
    DATA_POINTER = "data pointer"
    SELECTOR = "segment selector"
    FLAGS = "flags"
    X87 = "x87 80-bit float"
    VECTOR = "vector"


@dataclass(frozen=True, slots=True, kw_only=True)
class Register:
    """One whole register as a stub knows it.

    Attributes:
        name: gdb's name of it.
        bits: its width, a multiple of 8.
        offset: where it starts in a ``g`` reply, in bytes; None when it is not in ``g``.
        number: the number that ``p`` and ``P`` take; None when they do not know it.
        dwarf: the number of the System V ABI, None when it has none.
        role: its role, if any.
        kind: what its bits are.
        group: gdb's register group ("general", "float", "vector", "system").
        valid: a mask of the bits that the stub fills; 0 when it sends junk only (the register
            then decodes to None), None when all of them are.
    """

    name: str
    bits: int
    offset: int | None = None
    number: int | None = None
    dwarf: int | None = None
    role: Role | None = None
    kind: Kind = Kind.INTEGER
    group: str = "general"
    valid: int | None = None

    @property
    def size(self) -> int:
        """The width in bytes."""
        return self.bits // 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Some bits of a whole register: ``bits`` of them from bit ``shift`` up."""

    register: str
    shift: int
    bits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SubRegister:
    """A name for parts of whole registers, least significant part first: ``ah``, ``ymm0``."""

    name: str
    parts: tuple[Part, ...]

    @property
    def bits(self) -> int:
        """The width in bits."""
        return sum(part.bits for part in self.parts)


def place(
    registers: Iterable[Register], *, numbers: Mapping[str, int] | None = None
) -> tuple[Register, ...]:
    """Give registers their offsets, one after the other, and their numbers, counted from 0.

    Args:
        registers: in the order of ``g``.
        numbers: the ``p`` numbers where they are not the places in that order.
    """
    placed = []
    offset = 0
    for position, register in enumerate(registers):
        number = position if numbers is None else numbers.get(register.name)
        placed.append(dataclasses.replace(register, offset=offset, number=number))
        offset += register.size
    return tuple(placed)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterLayout:
    """The registers of one stub: where each is in ``g``, and what ``p`` calls it.

    Attributes:
        name: who sends it: "qemu-x86-64", "kgdb-i386", "gdbserver-x86-64-avx", …
        arch: "i386" or "x86-64".
        registers: the whole registers, in the order of ``g``; those outside ``g`` last.
        sub_registers: names for parts of them, by name.
        positions: where each whole register is in ``registers``, by name.

    >>> from rsp.arch.layouts import layout_for_length
    >>> layout = layout_for_length(608)
    >>> layout.name, layout["rip"].offset, layout.by_dwarf(7).name
    ('qemu-x86-64', 128, 'rsp')
    >>> values = layout.decode(bytes([0xF0, 0xFF, 1, 2, 3, 4, 5, 6]))
    >>> hex(values["rax"]), hex(layout.read(values, "ax")), values["rbx"]
    ('0x60504030201fff0', '0xfff0', None)
    """

    name: str
    arch: str
    registers: tuple[Register, ...]
    sub_registers: Mapping[str, SubRegister] = field(default_factory=dict, hash=False, repr=False)
    size: int = field(init=False, compare=False)
    positions: Mapping[str, int] = field(init=False, repr=False, compare=False)
    _by_name: dict[str, Register] = field(init=False, repr=False, compare=False)
    _by_number: dict[int, Register] = field(init=False, repr=False, compare=False)
    _by_dwarf: dict[int, Register] = field(init=False, repr=False, compare=False)
    _by_role: dict[Role, Register] = field(init=False, repr=False, compare=False)
    # What decode() needs, worked out once: it is the hot path of every stop.
    _sent: tuple[Register, ...] = field(init=False, repr=False, compare=False)
    _struct: struct.Struct = field(init=False, repr=False, compare=False)
    _wide: tuple[int, ...] = field(init=False, repr=False, compare=False)
    _masks: tuple[tuple[int, int], ...] = field(init=False, repr=False, compare=False)
    _junk: tuple[int, ...] = field(init=False, repr=False, compare=False)
    _outside: list[None] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        sent = tuple(r for r in self.registers if r.offset is not None)
        codes = ["<"]
        size = 0
        for register in sent:
            assert register.offset is not None
            if register.offset < size:
                raise ValueError(f"{self.name}: {register.name} lies on the one before it")
            codes.append(f"{register.offset - size}x")  # what no register of ours has
            size = register.offset
            codes.append(_STRUCT_CODES.get(register.size, f"{register.size}s"))
            size += register.size
        if self.registers[: len(sent)] != sent:
            raise ValueError(f"{self.name}: the registers outside g are not the last ones")
        by_name = {r.name: r for r in self.registers}
        if len(by_name) != len(self.registers):
            raise ValueError(f"{self.name}: two registers have the same name")
        computed: dict[str, object] = {
            "sub_registers": {
                name: sub
                for name, sub in self.sub_registers.items()
                if name not in by_name and all(p.register in by_name for p in sub.parts)
            },
            "size": size,
            "_by_name": by_name,
            "_by_number": {r.number: r for r in self.registers if r.number is not None},
            "_by_dwarf": {r.dwarf: r for r in self.registers if r.dwarf is not None},
            "_by_role": {r.role: r for r in self.registers if r.role is not None},
            "positions": {r.name: position for position, r in enumerate(self.registers)},
            "_sent": sent,
            "_struct": struct.Struct("".join(codes)),
            "_wide": tuple(i for i, r in enumerate(sent) if r.size not in _STRUCT_CODES),
            "_masks": tuple((i, r.valid) for i, r in enumerate(sent) if r.valid),
            "_junk": tuple(i for i, r in enumerate(sent) if r.valid == 0),
            "_outside": [None] * (len(self.registers) - len(sent)),
        }
        for name, value in computed.items():
            object.__setattr__(self, name, value)

    def __getitem__(self, name: str) -> Register | SubRegister:
        """Look a register up by name.

        Raises:
            RegisterUnavailable: there is none; the message has the nearest names.
        """
        if not isinstance(name, str):
            raise arguments.refused("name", name, "the name of a register")
        found = self._by_name.get(name) or self.sub_registers.get(name)
        if found is None:
            close = nearest(name, [*self._by_name, *self.sub_registers])
            raise RegisterUnavailable(
                f"no register {name!r} in the layout {self.name}{close}", register=name
            )
        return found

    def __contains__(self, name: object) -> bool:
        known = isinstance(name, str)
        return known and (name in self._by_name or name in self.sub_registers)

    def by_number(self, number: int) -> Register:
        """The register that ``p`` and ``P`` know by a number, or RegisterUnavailable."""
        number = arguments.integer(number, "number")
        return self._pick(self._by_number, number, f"number {number}")

    def by_dwarf(self, number: int) -> Register:
        """The register of a DWARF number (System V ABI), or RegisterUnavailable."""
        number = arguments.integer(number, "number")
        return self._pick(self._by_dwarf, number, f"DWARF number {number}")

    def role(self, role: Role) -> Register:
        """The register that has a role, or RegisterUnavailable."""
        role = arguments.member(Role, role, "role")
        return self._pick(self._by_role, role, f"role {role.value!r}")

    def _pick(self, table: Mapping[Any, Register], key: object, what: str) -> Register:
        try:
            return table[key]
        except KeyError:
            raise RegisterUnavailable(
                f"the layout {self.name} has no register of {what}", register=what
            ) from None

    def decode(self, data: bytes, unavailable: bytes | None = None) -> dict[str, int | None]:
        """Read the registers out of the bytes of a ``g`` reply. Takes any bytes.

        A register that is not wholly inside ``data`` is None, and so is one that the stub fills
        with junk; bytes beyond the layout are ignored.

        Args:
            data: the reply, as bytes.
            unavailable: one byte for each of ``data``, not 0 where the stub sent ``xx``.
        """
        return dict(zip(self.positions, self.decode_values(data, unavailable), strict=True))

    def decode_values(self, data: bytes, unavailable: bytes | None = None) -> list[int | None]:
        """Do what `decode` does, and return the values in the order of ``registers``."""
        data = arguments.data(data, "data")
        if unavailable is not None:
            unavailable = arguments.data(unavailable, "unavailable")
        length = len(data)
        if length < self.size:
            data += bytes(self.size - length)
        values: list[Any] = list(self._struct.unpack_from(data))
        from_bytes = int.from_bytes
        for position in self._wide:
            values[position] = from_bytes(values[position], "little")
        for position, mask in self._masks:
            values[position] &= mask
        for position in self._junk:
            values[position] = None
        if length < self.size or (unavailable and unavailable.count(0) != len(unavailable)):
            self._drop_missing(values, length, unavailable or b"")
        return values + self._outside if self._outside else values

    def _drop_missing(self, values: list[Any], length: int, unavailable: bytes) -> None:
        for position, register in enumerate(self._sent):
            assert register.offset is not None
            end = register.offset + register.size
            marks = unavailable[register.offset : end]
            if end > length or marks.count(0) != len(marks):
                values[position] = None

    def encode(self, values: Mapping[str, int | None]) -> tuple[bytes, bytes | None]:
        """Lay values out as in a ``g`` reply: the inverse of `decode`.

        Args:
            values: by name; what is None or absent is marked as unavailable.

        Returns:
            The data, and a mask with 1 for each unavailable byte, None when there is none.

        Raises:
            RegisterUnavailable: a name is not that of a whole register, or of one never sent.
            LocalProtocolError: a value does not fit its register.
        """
        _check_values(values)
        data = bytearray(self.size)
        mask = bytearray(b"\x01" * self.size)
        for name, value in values.items():
            register = self._whole(name)
            if value is None:
                continue
            if register.offset is None or register.valid == 0:
                raise RegisterUnavailable(
                    f"the stub of the layout {self.name} never sends {name}", register=name
                )
            end = register.offset + register.size
            data[register.offset : end] = self.to_bytes(name, value)
            mask[register.offset : end] = bytes(register.size)
        return bytes(data), bytes(mask) if any(mask) else None

    def to_bytes(self, name: str, value: int) -> bytes:
        """The bytes of one whole register, as ``P`` takes them.

        Raises:
            RegisterUnavailable: no such whole register.
            LocalProtocolError: the value does not fit.
        """
        register = self._whole(name)
        value = _checked(name, value, register.bits)
        return value.to_bytes(register.size, "little")

    def from_bytes(self, name: str, data: bytes) -> int | None:
        """The value of one whole register from the bytes that ``p`` returned.

        None when they are not as many as the register has, or when the stub fills it with junk.
        """
        register = self._whole(name)
        data = arguments.data(data, "data")
        if len(data) != register.size or register.valid == 0:
            return None
        value = int.from_bytes(data, "little")
        return value if register.valid is None else value & register.valid

    def read(self, values: Mapping[str, int | None], name: str) -> int | None:
        """The value of a register or sub-register; None when a part of it is unavailable.

        Raises:
            RegisterUnavailable: no such name.
        """
        found = self[name]
        _check_values(values)
        if isinstance(found, Register):
            return values.get(name)
        result = 0
        filled = 0
        for part in found.parts:
            whole = values.get(part.register)
            if whole is None:
                return None
            result |= (whole >> part.shift & (1 << part.bits) - 1) << filled
            filled += part.bits
        return result

    def write(self, values: Mapping[str, int | None], name: str, value: int) -> dict[str, int]:
        """What the whole registers become when a register or sub-register is written.

        The rest of a whole register stays as it is, as with gdb's ``set $eax = 1`` (and not as
        with the CPU's own ``mov $1, %eax``, which clears the upper half of rax).

        Returns:
            The new values of the whole registers that change, by name.

        Raises:
            RegisterUnavailable: no such name, or the rest of the whole register is not known.
            LocalProtocolError: the value does not fit.
        """
        found = self[name]
        _check_values(values)
        value = _checked(name, value, found.bits)
        if isinstance(found, Register):
            return {name: value}
        written = {}
        for part in found.parts:
            mask = (1 << part.bits) - 1
            new = value & mask
            value >>= part.bits
            if part.bits != self._whole(part.register).bits:
                whole = values.get(part.register)
                if whole is None:
                    raise RegisterUnavailable(
                        f"{name} is a part of {part.register}, whose value is not known; "
                        f"write {part.register} as a whole",
                        register=part.register,
                    )
                new = whole & ~(mask << part.shift) | new << part.shift
            written[part.register] = new
        return written

    def as_construct(self) -> Any:
        """The same layout as a ``construct.Struct``, which parses to the same integers.

        It knows nothing of unavailable bytes, and needs all of the data.
        """
        from rsp.arch.constructs import integers

        return integers(
            (register.name, register.size, register.valid)
            for register in self.registers
            if register.offset is not None
        )

    def _whole(self, name: str) -> Register:
        found = self[name]
        if isinstance(found, SubRegister):
            whole = " and ".join(part.register for part in found.parts)
            raise RegisterUnavailable(
                f"{name} is not a whole register: it is made of {whole}", register=name
            )
        return found


def _check_values(values: object) -> None:
    if not isinstance(values, Mapping):
        raise arguments.refused("values", values, "values by the names of registers")


def _checked(name: str, value: int, bits: int) -> int:
    number = arguments.integer(value, "value", lowest=None, below=None)
    if not 0 <= number < 1 << bits:
        raise LocalProtocolError(
            f"{number:#x} does not fit {name}: it has {bits} bits and takes unsigned values"
        )
    return number


def sub_registers(subs: Sequence[SubRegister]) -> dict[str, SubRegister]:
    """Index sub-registers by name."""
    return {sub.name: sub for sub in subs}
