"""The scope of an expression in a frame.

Contents: which names the blocks of a frame declare, told without a look at the stack, so that an
expression about anything else costs no more. Not here: where a variable of a frame is (see
`rsp.frames.frame`), names outside functions (see `scope`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from rsp.values.definition import value_of
from rsp.values.scope import Scope
from rsp.values.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rsp.symbols.at_pc.scopes import Scopes
    from rsp.values.per_cpu import Bases
    from rsp.values.scope import FrameVariables
    from rsp.values.value import Space


def frame_scope(
    frame: FrameVariables, around: Scopes | None, space: Space, bases: Bases | None
) -> Scope:
    """Return the scope of a frame; see ``Frame.value``."""
    place = (around,) if around is not None else ()
    names = LocalNames(lambda: place, space, bases, lambda: frame)
    return Scope(
        space=space,
        names=names,
        around=lambda: place,
        frames=lambda: (frame,),
        registers=lambda: frame.registers,
        bases=bases,
    )


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
        around: Callable[[], Sequence[Scopes]],
        space: Space,
        bases: Bases | None,
        frame: Callable[[], FrameVariables],
    ) -> None:
        self._around = around
        self._space = space
        self._bases = bases
        self._frame = frame

    def __getitem__(self, name: str) -> Value:
        for around in self._around():
            found = around.local(name)
            if found is None:
                continue
            value = (
                value_of(found, self._space, self._bases)
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
