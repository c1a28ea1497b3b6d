"""What an expression of C comes to at a stop.

Contents: the door to expressions, which loads their code when the first one is asked for. Not here:
names (see ``current_scope``), and expressions (see `rsp.values.expression`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rsp.inferior.inferior import Inferior
    from rsp.values.value import Value


def evaluate_at(
    inferior: Inferior,
    expression: str,
    *,
    cpu: int | None = None,
    names: Mapping[str, Value] | None = None,
) -> Value:
    """Return what an expression of C comes to; see ``Target.value``."""
    from rsp.inferior.current_scope import current_scope
    from rsp.values.expression import evaluate

    return evaluate(expression, current_scope(inferior, cpu=cpu, names=names))
