"""Which kernel it is that lies in some memory."""

from __future__ import annotations

import pytest

from rsp.linux.slide import identity_in

PAGE = 4096
BASE = 0xFFFF_FFFF_8100_0000
OF_A_FILE, OWN, OF_DATA = (bytes((each,)) * 20 for each in (1, 2, 3))
BANNER = b"Linux version 6.1.0-57 (gcc 12) #1 SMP"


def note(build_id: bytes) -> bytes:
    return b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0" + build_id


def pages(*contents: bytes) -> list[tuple[int, bytes]]:
    return [(BASE + PAGE * at, each.ljust(PAGE, b"\0")) for at, each in enumerate(contents)]


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        ((b"", BANNER + b"\n", note(OWN)), OWN),
        # A module's file is where memory between text and read-only data was freed.
        ((note(OF_A_FILE), BANNER + b"\n", note(OWN)), OWN),
        # Up to 5.4 it is in front of the banner.
        ((note(OWN), BANNER + b"\n", b""), OWN),
        # The vDSO's is no kernel's, nor is that of data.
        ((BANNER + b"\n", b"\x7fELF" + note(OF_A_FILE), b"data" + note(OF_DATA), note(OWN)), OWN),
        ((BANNER + b"\n",), None),
    ],
)
def test_whose_build_id_is_meant(contents: tuple[bytes, ...], expected: bytes | None) -> None:
    memory = pages(*contents)

    def is_constant(address: int) -> bool:
        page = next(data for base, data in memory if base <= address < base + PAGE)
        return not page.startswith(b"data")

    assert identity_in(memory, is_constant) == (expected, BANNER)
