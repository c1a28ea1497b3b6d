"""The headers of an ELF core as bytes, for the reader and the writer.

Source: System V ABI, chapters 4 and 5.
"""

from __future__ import annotations

import struct
from typing import Final

ET_CORE: Final = 4
EM_386, EM_X86_64 = 3, 62
PT_LOAD, PT_NOTE = 1, 4

HEADERS: Final = {
    4: struct.Struct("<16sHHIIIIIHHHHHH"),
    8: struct.Struct("<16sHHIQQQIHHHHHH"),
}
"""The file header, by the size of an address."""
SEGMENTS: Final = {4: struct.Struct("<8I"), 8: struct.Struct("<IIQQQQQQ")}
"""A program header, likewise; where its flags are differs."""
NOTE: Final = struct.Struct("<III")
"""The sizes of name and data of a note, and its type."""
