"""How values show themselves to programmers: addresses in hex.

Contents: the one ``__repr__`` of dataclasses, named tuples and wire values that hold addresses.
Not here: what an object of behaviour says of itself, which is in its own class.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_IN_HEX: Final = frozenset(
    {
        *("address", "begin", "end", "entry", "int3", "memory", "pc", "physical", "start"),
        *("base", "limit", "selector", "attributes"),
        *("cr0", "cr2", "cr3", "cr4", "efer", "eflags"),
    }
)


def is_in_hex(name: str) -> bool:
    """Return whether a field of that name is an address, or bits, and read in hex.

    >>> is_in_hex("start_address"), is_in_hex("cr3"), is_in_hex("length")
    (True, True, False)
    """
    # In DWARF the return address is the number of the column that has it.
    return name in _IN_HEX or (name.endswith("address") and name != "return_address")


def _shown(name: str, value: object, more: tuple[str, ...]) -> str:
    if (is_in_hex(name) or name in more) and type(value) is int:
        return f"{name}={value:#x}"
    if name == "registers" and isinstance(value, Mapping):
        inner = ", ".join(
            f"{key!r}: {each:#x}" if type(each) is int else f"{key!r}: {each!r}"
            for key, each in value.items()
        )
        return f"{name}={{{inner}}}"
    return f"{name}={value!r}"


def hex_repr(value: Any, *more: str) -> str:
    """Show the fields of a dataclass or a named tuple, addresses in hex.

    Args:
        value: the object.
        more: the names of further fields that are in hex.

    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Place:
    ...     address: int
    ...     size: int
    ...
    ...     def __repr__(self) -> str:
    ...         return hex_repr(self)
    >>> Place(0x7C00, 512)
    Place(address=0x7c00, size=512)
    """
    declared = getattr(value, "__dataclass_fields__", None)
    names = (
        value._fields
        if declared is None
        else [name for name, each in declared.items() if each.repr]
    )
    fields = ", ".join(_shown(name, getattr(value, name), more) for name in names)
    return f"{type(value).__qualname__}({fields})"
