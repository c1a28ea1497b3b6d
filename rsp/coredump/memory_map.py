"""What a process has mapped where, and which of it belongs in a core.

Contents: the lines of ``/proc/PID/maps``, and who is asked for them. Not here: what is made of a
process that nobody tells the map of (see ``write_process``).

Source: proc(5), core(5).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rsp.reprs import hex_repr
from rsp.session.remote_file import read_file
from rsp.wire import commands, replies

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rsp.inferior.live import LiveInferior

_LINE: Final = re.compile(
    rb"^([0-9a-f]+)-([0-9a-f]+) ([r-][w-][x-])([sp]) ([0-9a-f]+) [0-9a-f]+:[0-9a-f]+ (\d+) *(.*)$",
    re.MULTILINE,
)
_DELETED: Final = b" (deleted)"
# The devices whose mappings are memory and nothing else.
_MEMORY: Final = (b"/dev/zero", b"/dev/shm/")
_END: Final = 1 << 64
_MOST_REGIONS: Final = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A mapping.

    Attributes:
        begin: its first address.
        end: the address behind it.
        permissions: ``rwx``, a dash for each that it has not.
        shared: whether other processes see what is written to it.
        offset: where in the file it begins.
        inode: of the file, 0 where there is none.
        path: the file, or what the kernel says that it is: ``[heap]``.
    """

    begin: int
    end: int
    permissions: str = "rw-"
    shared: bool = False
    offset: int = 0
    inode: int = 0
    path: bytes = b""

    def __repr__(self) -> str:
        return hex_repr(self)

    @property
    def is_file(self) -> bool:
        """Whether it is of a file that has a name."""
        return self.inode != 0 and self.path.startswith(b"/")

    @property
    def is_memory(self) -> bool:
        """Whether its content is the process's own, and reading it does nothing else.

        What is shared is in its file, and may be the registers of a device.
        """
        if "r" not in self.permissions or self.path.startswith(b"[vvar"):
            return False
        named = self.is_file and not self.path.endswith(_DELETED)
        if named and self.path.startswith(b"/dev/") and not self.path.startswith(_MEMORY):
            return False
        return not (self.shared and named) or self.path.startswith(_MEMORY)


def parse_maps(text: bytes) -> tuple[Region, ...]:
    r"""Read ``/proc/PID/maps``; a line that is none is passed over.

    >>> [region] = parse_maps(b"00400000-00452000 r-xp 00001000 08:02 173521   /usr/bin/dbus\n")
    >>> hex(region.begin), region.permissions, region.path
    ('0x400000', 'r-x', b'/usr/bin/dbus')
    """
    return tuple(
        Region(
            begin=int(begin, 16),
            end=int(end, 16),
            permissions=permissions.decode(),
            shared=shared == b"s",
            offset=int(offset, 16),
            inode=int(inode),
            path=path.replace(rb"\012", b"\n"),
        )
        for begin, end, permissions, shared, offset, inode, path in _LINE.findall(text)
        if int(begin, 16) < int(end, 16) <= _END
    )


def memory_map(
    inferior: LiveInferior, processes: Sequence[int], pc: int
) -> tuple[int | None, tuple[Region, ...]]:
    """Return the map of the process, and the number by which the stub's machine knows it.

    Args:
        inferior: whose.
        processes: the numbers that may be its, the likeliest first.
        pc: an address that is mapped in it: a number that the stub made up may be another's.

    Returns:
        None and no regions where the stub does not tell.
    """
    for process in processes:
        text = read_file(inferior.session, f"/proc/{process}/maps")
        regions = parse_maps(text or b"")
        if any(region.begin <= pc < region.end for region in regions):
            return process, regions
    return None, tuple(_asked(inferior))


def _asked(inferior: LiveInferior) -> Iterator[Region]:
    """Ask for one region after the other, as lldb-server and debugserver tell them."""
    at = 0
    for _ in range(_MOST_REGIONS):
        reply = inferior.session.ask(commands.QueryMemoryRegion(address=at))
        if not isinstance(reply, replies.MemoryRegion) or not reply.size:
            return
        begin = reply.start_address if reply.start_address is not None else at
        end = begin + reply.size
        if reply.permissions:
            yield Region(
                begin=begin,
                end=end,
                permissions="".join(
                    letter if letter in reply.permissions else "-" for letter in "rwx"
                ),
                path=(reply.name or "").encode("utf-8", "surrogateescape"),
            )
        if not at < end < _END:
            return
        at = end
