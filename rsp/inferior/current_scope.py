"""The scope of an expression at a stop: that of the current thread's innermost frame.

Contents: where the current thread is, and what it asks the target for. Not here: names (see
`rsp.values.scope` and `rsp.values.local_names`).
"""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING

from rsp.errors import RegisterUnavailable, StubError, SymbolError
from rsp.symbols.at_pc.scopes import Scopes, scopes_at
from rsp.target.innermost import segment_bases
from rsp.target.position import position_of
from rsp.target.space import space_of
from rsp.values.local_names import LocalNames
from rsp.values.scope import Scope

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rsp.target.target import Target
    from rsp.values.value import Value


def current_scope(target: Target, *, cpu: int | None, names: Mapping[str, Value] | None) -> Scope:
    """Return the scope of the current thread's innermost frame; see ``Target.value``."""
    space = space_of(target, target.symbols if target.has_symbols else None)
    is_here = names is None  # other names are not of this place
    around = cache(lambda: _around(target) if is_here else ())
    frames = cache(target.backtrace)
    bases = partial(segment_bases, target, None, space)
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


def _around(target: Target) -> tuple[Scopes, ...]:
    """Return where the current thread is: not in a copy that begins there and is not entered."""
    if not target.has_symbols:
        return ()
    try:
        pc = target.registers.pc
        found = scopes_at(target.symbols, pc)
        if found and found.blocks and found.blocks[0].is_inlined:
            thread = target.thread
            position = position_of(target, thread.thread_id if thread is not None else None)
            if position.hidden:
                found = scopes_at(target.symbols, pc, hidden=position.hidden)
    except (StubError, RegisterUnavailable, SymbolError):
        return ()
    return (found,) if found is not None else ()
