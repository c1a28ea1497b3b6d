"""Where code goes on that no CPU executes now: a task that sleeps.

Contents: the value. Who fills it in knows the program: for Linux `rsp.linux.sleeping`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rsp.reprs import hex_repr

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumption:
    """What a task that sleeps will go on with.

    Attributes:
        registers: by gdb's names, those that are known; the pc (``rip`` or ``eip``) and the stack
            pointer are among them.
        begins: whether the pc is where code begins that has never run, and not behind a call.
        memory: the lowest address that means the same in every address space. What is below is
            another task's in memory as the target shows it now, and is not read.
    """

    registers: Mapping[str, int]
    begins: bool = False
    memory: int = 0

    def __repr__(self) -> str:
        return hex_repr(self)
