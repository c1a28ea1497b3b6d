"""The headers of an ELF file as bytes, by the size of an address.

Source: System V ABI, chapter 4.
"""

from __future__ import annotations

import struct
from typing import Final

FILE_HEADERS: Final = {
    4: struct.Struct("<16sHHIIIIIHHHHHH"),
    8: struct.Struct("<16sHHIQQQIHHHHHH"),
}
SECTION_HEADERS: Final = {4: struct.Struct("<10I"), 8: struct.Struct("<IIQQQQIIQQ")}
SYMBOL_SIZES: Final = {4: 16, 8: 24}
