"""The boot sector that the demo and the live tests run: 16, 32 and 64 bit on one way.

Contents: its source, the two files built from it, and the recipe. Both files are part of the
package, so that nothing here needs a compiler. Not here: code that talks to a target.

>>> IMAGE.stat().st_size, IMAGE.read_bytes()[-2:].hex()
(512, '55aa')
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = ["ELF", "IMAGE", "SOURCE"]

SOURCE: Final = Path(__file__).with_name("boot.S")
"""The assembler source, and what each of its labels stands for."""

ELF: Final = Path(__file__).with_name("boot.elf")
"""The same code linked at 0x7c00, with symbols and DWARF line numbers."""

IMAGE: Final = Path(__file__).with_name("boot.img")
"""The 512 bytes that a BIOS loads, as a raw disk."""
