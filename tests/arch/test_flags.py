"""Flag registers by name; the texts are what gdb 13.1 prints on QEMU 7.2."""

from __future__ import annotations

import pytest

from rsp.arch.flags import Cr0, Cr4, Efer, EFlags, Mxcsr


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (EFlags(0x3246), "[ IOPL=3 IF ZF PF ]"),
        (EFlags(0x46), "[ ZF PF ]"),
        (EFlags(0x2), "[ ]"),
        (Cr0(0x60000010), "[ CD NW ET ]"),
        (Cr4(0x20), "[ PAE ]"),
        (Efer(0xD00), "[ NXE LMA LME ]"),
        (Mxcsr(0x1F80), "[ IM DM ZM OM UM PM ]"),
    ],
)
def test_gdb_text(flags: EFlags, text: str) -> None:
    assert flags.gdb_text == str(flags) == f"{flags}" == text


def test_values_are_kept() -> None:
    flags = EFlags(0xFFFFFFFF)
    assert int(flags) == 0xFFFFFFFF
    assert EFlags.ZF in flags
    assert int(EFlags(0x246) & ~EFlags.ZF) == 0x206
    assert f"{flags:#x}" == "0xffffffff"
