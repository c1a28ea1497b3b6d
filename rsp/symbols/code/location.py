"""A place in the code that a breakpoint goes to.

Contents: what is known of one. Not here: which there are (`locator`), which most questions do not
ask.
"""

from __future__ import annotations

from dataclasses import dataclass

from rsp.reprs import hex_repr


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """A place in the code.

    Attributes:
        address: its link address.
        function: the function that it is in, which may be inlined there; None where none is known.
        file: of the source, as the compiler noted it; None where there are no lines for it.
        line: of that file; 0 where there is none.
        inlined: whether the function is an inlined copy there.
    """

    address: int
    function: str | None
    file: str | None
    line: int
    inlined: bool

    def __str__(self) -> str:
        place = f" in {self.function}" if self.function else ""
        source = f" at {self.file}:{self.line}" if self.file else ""
        return f"{self.address:#x}{place}{source}"

    def __repr__(self) -> str:
        return hex_repr(self)
