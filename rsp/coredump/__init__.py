"""Core files: a process or a machine that stands still in an ELF file.

Contents: `write_core`, which writes one of a live target, and reading one as an Inferior. Importing
the package loads nothing else. Not here: what users hold (``rsp.open_core``, see
`rsp.remote.core`).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rsp.coredump.writer import write_core

__all__ = ["write_core"]

_HOMES = {"write_core": "writer"}


# A type checker that saw this would take any name for a public one.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module 'rsp.coredump' has no attribute {name!r}")
        value = getattr(import_module(f"rsp.coredump.{_HOMES[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
