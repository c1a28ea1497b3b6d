"""Flag registers, by the names of Intel's SDM.

Contents: EFLAGS, CR0, CR4, EFER and MXCSR as IntFlags. Not here: which register a layout has them
in.

Sources: Intel SDM volume 1, sections 3.4.3 (EFLAGS) and 10.2.3 (MXCSR); volume 3A, sections 2.5
(CR0, CR4) and 2.2.1 (IA32_EFER); AMD64 APM volume 2, section 3.1.7, for the bits of EFER that
only AMD has. Bits without a name are kept.
"""

from __future__ import annotations

from enum import IntFlag


class _RegisterFlags(IntFlag):
    """Members stand in the order in which gdb shows them."""

    @property
    def gdb_text(self) -> str:
        """What is set, as gdb shows it on QEMU: ``[ IOPL=3 IF ZF PF ]``.

        gdb follows the order of the target description. QEMU's has the highest bit first, except
        for mxcsr; where gdb uses a description of its own (gdbserver, kgdb), the lowest is first.
        Unlike gdb's, this leaves out a field that is 0 (``IOPL=0``).
        """
        shown = []
        for name, member in type(self).__members__.items():
            if bits := self.value & member.value:
                lowest = member.value & -member.value
                shown.append(name if lowest == member.value else f"{name}={bits // lowest}")
        return " ".join(["[", *shown, "]"])

    def __str__(self) -> str:
        return self.gdb_text


class EFlags(_RegisterFlags):
    """The flags register; IOPL is a field of two bits.

    >>> str(EFlags(0x3246)), EFlags.ZF in EFlags(0x246)
    ('[ IOPL=3 IF ZF PF ]', True)
    """

    ID = 1 << 21
    VIP = 1 << 20
    VIF = 1 << 19
    AC = 1 << 18
    VM = 1 << 17
    RF = 1 << 16
    NT = 1 << 14
    IOPL = 3 << 12
    OF = 1 << 11
    DF = 1 << 10
    IF = 1 << 9
    TF = 1 << 8
    SF = 1 << 7
    ZF = 1 << 6
    AF = 1 << 4
    PF = 1 << 2
    CF = 1 << 0


class Cr0(_RegisterFlags):
    """Control register 0."""

    PG = 1 << 31
    CD = 1 << 30
    NW = 1 << 29
    AM = 1 << 18
    WP = 1 << 16
    NE = 1 << 5
    ET = 1 << 4
    TS = 1 << 3
    EM = 1 << 2
    MP = 1 << 1
    PE = 1 << 0


class Cr4(_RegisterFlags):
    """Control register 4."""

    UINTR = 1 << 25
    PKS = 1 << 24
    CET = 1 << 23
    PKE = 1 << 22
    SMAP = 1 << 21
    SMEP = 1 << 20
    KL = 1 << 19
    OSXSAVE = 1 << 18
    PCIDE = 1 << 17
    FSGSBASE = 1 << 16
    SMXE = 1 << 14
    VMXE = 1 << 13
    LA57 = 1 << 12
    UMIP = 1 << 11
    OSXMMEXCPT = 1 << 10
    OSFXSR = 1 << 9
    PCE = 1 << 8
    PGE = 1 << 7
    MCE = 1 << 6
    PAE = 1 << 5
    PSE = 1 << 4
    DE = 1 << 3
    TSD = 1 << 2
    PVI = 1 << 1
    VME = 1 << 0


class Efer(_RegisterFlags):
    """The extended feature enable register, IA32_EFER."""

    TCE = 1 << 15
    FFXSR = 1 << 14
    LMSLE = 1 << 13
    SVME = 1 << 12
    NXE = 1 << 11
    LMA = 1 << 10
    LME = 1 << 8
    SCE = 1 << 0


class Mxcsr(_RegisterFlags):
    """The control and status register of SSE."""

    IE = 1 << 0
    DE = 1 << 1
    ZE = 1 << 2
    OE = 1 << 3
    UE = 1 << 4
    PE = 1 << 5
    DAZ = 1 << 6
    IM = 1 << 7
    DM = 1 << 8
    ZM = 1 << 9
    OM = 1 << 10
    UM = 1 << 11
    PM = 1 << 12
    FZ = 1 << 15


_REGISTERS = {"eflags": EFlags, "cr0": Cr0, "cr4": Cr4, "efer": Efer, "mxcsr": Mxcsr}


def flags_text(register: str, value: int) -> str | None:
    """Return the flags of a register in gdb's spelling, ``[ ZF PF ]``; None of any other.

    >>> flags_text("cr0", 0x80000011), flags_text("rax", 1)
    ('[ PG ET PE ]', None)
    """
    flags = _REGISTERS.get(register)
    return None if flags is None else str(flags(value))
