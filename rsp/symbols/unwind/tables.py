"""The unwinding tables of a file together: which of them has the rules for an address.

Contents: the choice between call frame information and ORC. Not here: how either is read (`cfi`,
`orc`), and what is done with the rules (`rules` says what they are).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rsp.errors import BadImage
from rsp.symbols.unwind.cfi import CallFrames
from rsp.symbols.unwind.orc import OrcTable

if TYPE_CHECKING:
    from rsp.symbols.cache.cache import Cache
    from rsp.symbols.elf.image import Image
    from rsp.symbols.unwind.rules import UnwindRules


class UnwindTables:
    """The unwinding tables of an image: call frame information, and ORC where that says nothing.

    Where the kernel changes to another stack (an interrupt's), inline assembly does so behind the
    back of the compiler, whose CFI is wrong until it is back; objtool sees it. There, ORC goes
    first.

    Args:
        image: the file, or a module that has been given its addresses.
        debug: its debug file, if that is another one.
        cache: keeps where the entries are between processes.

    >>> from rsp.symbols.elf.image import Image
    >>> from rsp.testing.boot import ELF
    >>> tables = UnwindTables(Image(ELF))
    >>> rules = tables.rules_at(0x7CC7)
    >>> rules.cfa, rules.kind
    (RegisterOffset(register=7, offset=8), <FrameKind.END: 'end'>)
    >>> print(tables.rules_at(0x1234))
    None
    """

    def __init__(
        self, image: Image, debug: Image | None = None, *, cache: Cache | None = None
    ) -> None:
        # What a program needs to run (.eh_frame) stays in it when the rest goes to a debug file.
        self.call_frames: tuple[CallFrames, ...] = tuple(
            CallFrames(each, cache) for each in (image, debug) if each
        )
        self.orc: OrcTable = OrcTable(image)

    def rules_at(self, address: int) -> UnwindRules | None:
        """Return the rules for an address, None where no table covers it.

        For a caller's frame, ask for the address before the return address: the call may have been
        the last instruction of its function.

        Raises:
            BadImage: the table that covers it makes no sense.
        """
        damage = None
        rules = None
        for frames in self.call_frames:
            try:
                rules = rules or frames.rules_at(address)
            except BadImage as error:
                damage = error
        try:
            if rules is None or self.orc.switches_stack(address):
                rules = self.orc.rules_at(address) or rules
        except BadImage as error:
            damage = damage or error
        if rules is None and damage is not None:
            raise damage
        return rules
