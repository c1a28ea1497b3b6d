"""A core of a live stop, written to a file: ``rsp core``.

Contents: `write_core`: which kind of core a target gives, and the file, which is there as a whole
or not at all. Not here: what each kind is made of (``write_process``, ``write_machine``).
"""

from __future__ import annotations

import logging
import os
import tempfile
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol, cast

from rsp import arguments
from rsp.coredump.write_elf import write_elf
from rsp.errors import ArgumentError, UnsupportedCommand
from rsp.inferior.live import LiveInferior
from rsp.wire.signals import to_linux

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from os import PathLike

    from rsp.run.stop import Stop

logger: Final = logging.getLogger("rsp.coredump")

_SIGTRAP: Final = 5


class Stopped(Protocol):
    """What a core is written of: a Target."""

    @property
    def inferior(self) -> LiveInferior:
        """What stands still there."""
        ...

    @property
    def stop(self) -> Stop:
        """The last stop."""
        ...


def write_core(
    target: Stopped,
    path: str | PathLike[str],
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write an ELF core of a target as it stands now, for gdb, drgn and ``rsp.open_core``.

    Of a process it has all threads with their registers, and its memory. Of a machine under QEMU it
    has all CPUs and all physical memory, at the addresses that the page tables give it, too. With
    the symbols of a Linux kernel it has a VMCOREINFO note, from which drgn learns where the kernel
    is. Pages of zeros take no room on the disk.

    The file appears as a whole, in the place of one that was there before. An error or Ctrl-C
    leaves none, and leaves the target as it was.

    >>> from rsp.coredump import write_core
    >>> with rsp.connect(":1234", symbols="vmlinux") as target:  # doctest: +SKIP
    ...     write_core(target, "vmcore")

    Args:
        target: it stands still.
        path: the file.
        progress: told, every 1 MiB and less, how many bytes of memory have been read, and how many
            there are.

    Raises:
        UnsupportedCommand: the stub gives neither the memory of a process nor physical memory, or
            does not tell where that is.
        LocalProtocolError: the target runs, or has ended.
        ArgumentError: the path is none, or is there and is no file.
        OSError: the file cannot be written.
    """
    inferior = getattr(target, "inferior", None)
    if not isinstance(inferior, LiveInferior):
        raise arguments.refused("target", target, "a Target that rsp.connect has made")
    inferior.check()
    place = _place(path)
    if inferior.stub.physical_memory:
        from rsp.coredump.write_machine import machine_core

        core = machine_core(inferior)
    elif inferior.stub.tasks or not inferior.stub.delivers_signals:
        raise UnsupportedCommand(
            f"a core of a machine takes its physical memory, which this stub ({inferior.stub.name})"
            " cannot read: QEMU's can, from 4.2. Read parts of it with read_memory (`rsp read`), "
            "or let the guest write one itself (kdump)",
            command="Qqemu.PhyMemMode",
        )
    else:
        from rsp.coredump.write_process import process_core

        core = process_core(inferior, to_linux(target.stop.signal) or _SIGTRAP)

    def read(address: int, length: int) -> bytes:
        return inferior.read_memory(address, length, physical=core.physical)

    with (
        _whole_file(place) as file,
        inferior.physical_memory() if core.physical else nullcontext(),
    ):
        write_elf(file, core, read, progress)
    if short := [run for run in core.runs if run.kept < run.size]:
        logger.warning(
            "%d ranges of memory could not be read to their end, the first at %#x: what is behind "
            "that is not in the core",
            len(short),
            short[0].address + short[0].kept,
        )


def _place(path: str | PathLike[str]) -> Path:
    """Return where the file is to be, behind symbolic links."""
    try:
        place = Path(os.path.realpath(os.fspath(path)))
    except (TypeError, ValueError) as error:
        raise arguments.refused("path", path, "the name of a file") from error
    if place.exists() and not place.is_file():
        raise ArgumentError(f"{place} is there and is no file: name one that is to be written")
    return place


@contextmanager
def _whole_file(place: Path) -> Iterator[BinaryIO]:
    """Open a file beside a place, and put it there at the end of the block."""
    file = tempfile.NamedTemporaryFile(  # noqa: SIM115
        dir=place.parent, prefix=f".{place.name}.", delete=False
    )
    try:
        with file:
            yield cast("BinaryIO", file)
        Path(file.name).replace(place)
    except BaseException:
        with suppress(OSError):
            Path(file.name).unlink()
        raise
