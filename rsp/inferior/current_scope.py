"""The scope of an expression at a stop: that of the current thread's innermost frame.

Contents: where the current thread is, and what it asks the target for. Not here: names (see
`rsp.values.scope` and `rsp.values.local_names`).
"""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING

from rsp.errors import RegisterUnavailable, StubError, SymbolError
from rsp.inferior.backtraces import backtrace
from rsp.inferior.frame_zero import segment_bases
from rsp.inferior.position import position_of
from rsp.inferior.space import space_of
from rsp.symbols.at_pc.scopes import Scopes, scopes_at
from rsp.values.local_names import LocalNames
from rsp.values.scope import Scope

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rsp.inferior.inferior import Inferior
    from rsp.values.value import Value


def current_scope(
    inferior: Inferior, *, cpu: int | None, names: Mapping[str, Value] | None
) -> Scope:
    """Return the scope of the current thread's innermost frame; see ``Target.value``."""
    space = space_of(inferior, inferior.symbols if inferior.has_symbols else None)
    is_here = names is None  # other names are not of this place
    around = cache(lambda: _around(inferior) if is_here else ())
    frames = cache(lambda: backtrace(inferior, inferior.current))
    bases = partial(segment_bases, inferior, inferior.current, space)
    if names is None:
        names = LocalNames(around, space, bases, lambda: frames()[0])
    return Scope(
        space=space,
        names=names,
        around=around,
        frames=frames,
        registers=lambda: inferior.registers,
        bases=bases,
        cpu=cpu,
    )


def _around(inferior: Inferior) -> tuple[Scopes, ...]:
    """Return where the current thread is: not in a copy that begins there and is not entered."""
    if not inferior.has_symbols:
        return ()
    try:
        pc = inferior.registers.pc
        found = scopes_at(inferior.symbols, pc)
        if found and found.blocks and found.blocks[0].is_inlined:
            position = position_of(inferior, inferior.current)
            if position.hidden:
                found = scopes_at(inferior.symbols, pc, hidden=position.hidden)
    except (StubError, RegisterUnavailable, SymbolError):
        return ()
    return (found,) if found is not None else ()
