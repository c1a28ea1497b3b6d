"""Programs that hold structures of kernels that do not run here, under gdbserver.

Contents: how they are compiled, one for each set of macros, and how their memory is changed.
"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

import rsp
from lab.programs import SOURCES
from lab.servers import gdbserver_pipe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rsp.remote.target import Target


GCC = (
    *("gcc", "-g", "-O0", "-Wall", "-Wextra", "-Wno-missing-field-initializers"),
    *("-static", "-no-pie", "-nostdlib"),
)


class Structures:
    """Targets that stand before the first instruction of a program; a context manager.

    A target is shared by all who ask for the same program, and left as it was.
    """

    def __init__(self) -> None:
        self._running: dict[tuple[str, ...], Target] = {}
        self._cleanup = contextlib.ExitStack()
        self._directory = Path(
            self._cleanup.enter_context(tempfile.TemporaryDirectory(prefix="rsp-structures-"))
        )

    def __call__(self, source: str, *options: str) -> Target:
        """Return the target of a source file of tests/lab/programs, compiled with options."""
        key = (source, *options)
        if key not in self._running:
            program = self._directory / "".join(key).replace("=", "-")
            subprocess.run(
                [*GCC, *options, "-o", program, SOURCES / source],
                check=True,
            )
            self._running[key] = self._cleanup.enter_context(
                rsp.connect(gdbserver_pipe(program), symbols=program, slide=0)
            )
        return self._running[key]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._cleanup.close()


def put(target: Target, place: str, data: bytes) -> None:
    """Write at what an expression of C names."""
    target.write_memory(int(target.value(f"&{place}")), data)


@contextlib.contextmanager
def changed(target: Target, place: str, number: int) -> Iterator[None]:
    """Give a variable or a member another number, for a while."""
    value = target.value(place)
    size = value.type_.size or 0
    before = target.read_memory(value.address_ or 0, size)
    target.write_memory(
        value.address_ or 0, (number & (1 << 8 * size) - 1).to_bytes(size, "little")
    )
    try:
        yield
    finally:
        target.write_memory(value.address_ or 0, before)
