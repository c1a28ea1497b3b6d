"""Functions that have left no frame: they ended in a jump to the next one.

Contents: the ways of tail calls between two functions, which the debug information lists, and the
frames that they stand for where there is only one way. Not here: registers, and what is told of one
call (`calls`).

The rules are those of gdb 13 (gdb/dwarf2/loc.c, call_site_find_chain and
func_verify_no_selftailcall): as soon as one call on the way goes nobody knows where, nothing is
concluded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rsp.errors import BadImage, SymbolNotFound
from rsp.symbols.at_pc.calls import Call
from rsp.symbols.code import call_sites
from rsp.symbols.dwarf.ranges import entry_pc

if TYPE_CHECKING:
    from collections.abc import Collection

    from rsp.symbols.at_pc.calls import Callee
    from rsp.symbols.table import SymbolTable

_MOST_FUNCTIONS = 128
"""How many functions are looked into for one answer; `vsnprintf` takes 75."""
_MOST_CALLS = 32
"""How many tail calls a function may have; one that has hundreds is a switch over all functions of
a kind, of which some are always unknown."""
_DEEPEST = 32


class _Unknown(Exception):
    """A call goes nobody knows where."""


@dataclass(frozen=True, slots=True)
class _TailCall:
    """A tail call: the address behind it, and where it may go, names not looked up."""

    pc: int
    targets: frozenset[int | str]


class TailCalls:
    """What is known of the tail calls of functions, at the addresses where these run.

    Args:
        symbols: who is asked; None where there are none.
    """

    def __init__(self, symbols: SymbolTable | None) -> None:
        self._symbols = symbols
        self._addresses: dict[str, int | None] = {}
        self._lists: dict[int, tuple[_TailCall, ...] | None] = {}
        self._leads_back: dict[int, bool] = {}

    def goes_to(self, targets: Collection[int | str], function: Callee) -> bool:
        """Return whether a function is among the targets of a call."""
        # A name is looked up last, which takes longest.
        if function.start in targets or function.name in targets:
            return True
        names = (target for target in targets if isinstance(target, str))
        return any(self._address(name) == function.start for name in names)

    def may_lead_back(self, function: Callee) -> bool:
        """Return whether tail calls may lead from a function back to it."""
        start = function.start
        if start not in self._leads_back:
            try:
                self._leads_back[start] = self._search_back(function)
            except (_Unknown, BadImage):
                self._leads_back[start] = True
        return self._leads_back[start]

    def between(self, call: Call, callee: Callee) -> tuple[int, ...]:
        """Return the addresses behind the tail calls on the way to a function, innermost first.

        Those that are on every way are returned, none where the call itself is to the function.

        Args:
            call: the call that has left a frame.
            callee: the function that was come to.
        """
        ways = _Ways(callee)
        try:
            targets = call.targets()
            if not self.goes_to(targets, callee):
                self._search(targets, [], ways)
        except (_Unknown, BadImage):
            return ()
        return ways.common()

    def _search_back(self, function: Callee) -> bool:
        seen, pending = {function.start}, [function.start]
        while pending:
            for call in self._calls_of(pending.pop()):
                if self.goes_to(call.targets, function):
                    return True
                new = {self._known(target) for target in call.targets} - seen
                pending += new
                seen |= new
                if len(seen) > _MOST_FUNCTIONS:
                    raise _Unknown
        return False

    def _search(self, targets: Collection[int | str], way: list[_TailCall], ways: _Ways) -> None:
        if not targets or len(way) >= _DEEPEST:
            raise _Unknown
        for target in targets:
            ways.functions += 1
            if ways.functions > _MOST_FUNCTIONS:
                raise _Unknown
            for call in self._calls_of(self._known(target)):
                if call in way:
                    continue
                way.append(call)
                if self.goes_to(call.targets, ways.callee):
                    ways.add(way)
                else:
                    self._search(call.targets, way, ways)
                way.pop()

    def _known(self, target: int | str) -> int:
        address = self._address(target) if isinstance(target, str) else target
        if address is None:
            raise _Unknown
        return address

    def _address(self, name: str) -> int | None:
        if name not in self._addresses and self._symbols is not None:
            try:
                self._addresses[name] = self._symbols[name].address
            except SymbolNotFound:
                self._addresses[name] = None
        return self._addresses.get(name)

    def _calls_of(self, start: int) -> tuple[_TailCall, ...]:
        if start not in self._lists:
            self._lists[start] = self._read(start)
        calls = self._lists[start]
        if calls is None:
            raise _Unknown
        return calls

    def _read(self, start: int) -> tuple[_TailCall, ...] | None:
        found = self._symbols.binary_at(start) if self._symbols is not None else None
        if found is None:
            return None
        binary, slide = found
        unit = binary.unit_at(start - slide)
        function = binary.functions.at(unit, start - slide) if unit is not None else None
        if function is None or entry_pc(function) != start - slide:
            return None
        calls: list[_TailCall] = []
        for site in call_sites.tail_calls(binary.functions, function):
            call = Call(site, slide)
            targets, return_pc = call.targets(), call.return_pc
            if not targets or return_pc is None or len(calls) >= _MOST_CALLS:
                return None
            calls.append(_TailCall(return_pc, frozenset(targets)))
        return tuple(calls)


class _Ways:
    """What all ways found so far have in common, at their beginning and at their end."""

    def __init__(self, callee: Callee) -> None:
        self.callee = callee
        self.functions = 0
        self._first: list[int] = []
        self._callers = self._callees = -1

    def add(self, way: list[_TailCall]) -> None:
        pcs = [call.pc for call in way]
        if self._callers < 0:
            self._first, self._callers, self._callees = pcs, len(pcs), len(pcs)
            return
        self._callers = min(self._callers, _same(self._first, pcs))
        self._callees = min(self._callees, _same(self._first[::-1], pcs[::-1]))
        if not self._callers and not self._callees:
            raise _Unknown

    def common(self) -> tuple[int, ...]:
        pcs = self._first
        if self._callees == len(pcs):
            return tuple(pcs[::-1])
        ends = pcs[len(pcs) - self._callees :]
        return tuple((pcs[: self._callers] + ends)[::-1])


def _same(one: list[int], other: list[int]) -> int:
    count = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        count += 1
    return count
