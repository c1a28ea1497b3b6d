"""The scope of an expression: that of the current thread's stop, or of a frame.

Here lives: which names the blocks of a frame have, told without a look at the stack, so that an
expression about anything else costs no more. Here must not live: where a variable of a frame is
(`frame`), and names outside functions (`scope`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING

from rsp.errors import RegisterUnavailable, StubError, SymbolError
from rsp.symbols.dwarf import constants as dw
from rsp.target.definitions import Definition
from rsp.target.per_cpu import bases_in, bases_of
from rsp.target.position import position_of
from rsp.target.scope import Scope
from rsp.target.surroundings import Surroundings, surroundings_at
from rsp.target.values import Space, Value

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rsp.target.frame import Frame
    from rsp.target.per_cpu import Bases
    from rsp.target.target import Target


def current_scope(target: Target, *, cpu: int | None, names: Mapping[str, Value] | None) -> Scope:
    """Return the scope of the current thread's innermost frame; see ``Target.value``."""
    space = Space.of(target, target.symbols if target.has_symbols else None)
    is_here = names is None  # other names are not of this place
    around = cache(lambda: _around(target) if is_here else ())
    frames = cache(target.backtrace)
    bases = partial(bases_of, target, space)
    if names is None:
        names = LocalNames(around, space, bases, lambda: frames()[0])
    return Scope(
        space=space,
        names=names,
        around=around,
        frames=frames,
        registers=lambda: target.registers,
        bases=bases,
        cpu=cpu,
    )


def frame_scope(frame: Frame, around: Surroundings | None, space: Space) -> Scope:
    """Return the scope of a frame; see ``Frame.value``."""
    place = (around,) if around is not None else ()

    def bases() -> tuple[set[int]]:
        return (bases_in(frame.registers),)

    names = LocalNames(lambda: place, space, bases, lambda: frame)
    return Scope(
        space=space,
        names=names,
        around=lambda: place,
        frames=lambda: (frame,),
        registers=lambda: frame.registers,
        bases=bases,
    )


def _around(target: Target) -> tuple[Surroundings, ...]:
    """Return where the current thread is: not in a copy that begins there and is not entered."""
    if not target.has_symbols:
        return ()
    try:
        pc = target.registers.pc
        found = surroundings_at(target.symbols, pc)
        if found and found.blocks and found.blocks[-1].tag == dw.DW_TAG_inlined_subroutine:
            thread = target.thread
            position = position_of(target, thread.thread_id if thread is not None else None)
            if position.hidden:
                found = surroundings_at(target.symbols, pc, hidden=position.hidden)
    except (StubError, RegisterUnavailable, SymbolError):
        return ()
    return (found,) if found is not None else ()


class LocalNames(Mapping[str, Value]):
    """What the blocks around a place declare: arguments, variables, static ones, enumerators.

    Args:
        around: returns the place.
        space: the memory.
        bases: of segments, which tell the current thread's CPU.
        frame: returns the frame, whose variables are not the same in all.
    """

    def __init__(
        self,
        around: Callable[[], Sequence[Surroundings]],
        space: Space,
        bases: Bases,
        frame: Callable[[], Frame],
    ) -> None:
        self._around = around
        self._space = space
        self._bases = bases
        self._frame = frame

    def __getitem__(self, name: str) -> Value:
        for around in self._around():
            die = around.local(name)
            if die is None:
                continue
            found = Definition(binary=around.binary, slide=around.slide, die=die, name=name)
            value = (
                found.value(self._space, self._bases)
                if found.is_static
                else self._frame().variable(name)
            )
            if value is not None:
                return value
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(name for around in self._around() for name in around.local_names())
