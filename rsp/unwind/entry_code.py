"""The code by which a kernel is entered and left, where neither tables nor frame pointers suffice.

Contents: what an unwinder asks of such code. Who answers knows the kernel: for Linux
`rsp.linux.kernel_entry`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from rsp.unwind.activation import Activation


class EntryCode(Protocol):
    """What is known of the entry code of a kernel. The methods may raise BadImage."""

    def caller_of_thunk(self, frame: Activation, /) -> Activation | None:
        """Return who has called the thunk for indirect jumps that a frame is of, None elsewhere."""
        ...

    def on_the_right_stack(self, frame: Activation, /) -> Activation:
        """Return a frame with the stack pointer that its rules are right with."""
        ...

    def user_space_behind(self, frame: Activation, /) -> Activation | None:
        """Return the user space that a frame of no caller has come from, None if from nowhere."""
        ...

    def caller_before(self, frame: Activation, caller: Activation, cfa: int, /) -> Activation:
        """Return the caller of a frame: the one that its rules lead to, or one between the two."""
        ...

    def entered_from(self, frame: Activation, sp: int, /) -> Activation | None:
        """Return the interrupted code, for a frame of entry code without tables; else None.

        Raises:
            EndOfStack: it is entry code, and its stack does not tell.
        """
        ...

    def interrupted_by(self, frame: Activation, sp: int, fp: int | None, /) -> Activation | None:
        """Return the code that a frame without tables has interrupted, None if it was called."""
        ...


class _NoEntryCode:
    """A program that is not entered: there is nothing but calls."""

    def caller_of_thunk(self, _frame: Activation, /) -> None:
        return None

    def on_the_right_stack(self, frame: Activation, /) -> Activation:
        return frame

    def user_space_behind(self, _frame: Activation, /) -> None:
        return None

    def caller_before(self, _frame: Activation, caller: Activation, _cfa: int, /) -> Activation:
        return caller

    def entered_from(self, _frame: Activation, _sp: int, /) -> None:
        return None

    def interrupted_by(self, _frame: Activation, _sp: int, _fp: int | None, /) -> None:
        return None


NO_ENTRY_CODE: Final[EntryCode] = _NoEntryCode()
"""Of programs, and of whatever nobody knows the entry code of."""
