"""Odd values for arguments, and what a call with one must come to.

Contents: the values, a way to put one in the place of each argument of each public method of an
object, and the rule: an error of the library, or none.
"""

from __future__ import annotations

import array
import inspect
import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rsp

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


class Sixteen:
    def __index__(self) -> int:
        return 16


# None is in it for where it is not taken, as are numbers and texts that mean something elsewhere.
ODD: tuple[object, ...] = (
    *(None, True, False, -1, 3, 1 << 33, 1 << 63, 1 << 64, -(1 << 70), 10**5000),
    *(1.5, -0.0, math.nan, -math.inf, 1e300, 2j, Fraction(1, 3), Sixteen()),
    *("", " ", "x", "no such thing", "0x", "010", "+", "*", "main+", "main:", ":", "1e9", "-1"),
    *("\0", "\udcff", "\ud800", "é", "hardware", "READ", "9" * 5000, "a" * 100_000),
    *(b"", b"main", bytearray(b"\xff"), memoryview(b"x"), array.array("H", [1])),
    *((), [], [1], {}, {"a": 1}, {1: "a"}, set(), range(3), slice(1)),
    *(int, object(), len, rsp.Watch.READ, rsp.CpuMode, rsp.commands.Detach(), Path("nope")),
)


@dataclass(frozen=True)
class Call:
    """A method of an object, and the argument of it that is odd."""

    owner: object
    method: str
    argument: str
    usual: Mapping[str, object]

    def __str__(self) -> str:
        return f"{type(self.owner).__name__}.{self.method}({self.argument}=)"

    def __call__(self, given: object) -> object:
        return call(self.owner, self.method, {**self.usual, self.argument: given})


def calls_of(owner: object, usual: Mapping[str, object], without: Iterable[str]) -> Iterator[Call]:
    """Yield each argument of each public method.

    Args:
        owner: whose methods.
        usual: what is given for the other arguments, by their names.
        without: methods that are left out.
    """
    special = {"__getitem__", "__contains__"}
    for name in dir(type(owner)):
        member = inspect.getattr_static(type(owner), name)
        if name in without or (name.startswith("_") and name not in special):
            continue
        home = getattr(member, "__module__", None) or ""
        if isinstance(member, type | property) or not home.startswith("rsp."):
            continue  # no method, or one of Python's own
        try:
            parameters = inspect.signature(getattr(owner, name)).parameters
        except ValueError:  # of C, without a signature
            continue
        given = {
            each.name: usual[each.name]
            for each in parameters.values()
            if each.name in usual
            and (each.default is each.empty or each.name in ("timeout", "max_steps"))
        }
        for parameter in parameters:
            yield Call(owner, name, parameter, given)


def call(owner: object, method: str, given: Mapping[str, object]) -> object:
    """Call a method with arguments by their names, those that only have a place by that."""
    function: Any = getattr(owner, method)
    arguments = inspect.signature(function).bind_partial()
    arguments.arguments.update(given)
    return function(*arguments.args, **arguments.kwargs)
