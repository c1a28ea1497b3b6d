"""The running Linux kernel: slide, modules, tasks, per-CPU data, log.

Contents: what is known of Linux and of no other program. A target knows none of it: this room is
plugged into the target's doors, which ``rsp.connect`` does where the symbols are those of a kernel.
Importing the package loads nothing of it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rsp.linux.kernel import Kernel
    from rsp.linux.log import LogRecord
    from rsp.linux.modules import Module
    from rsp.linux.tasks import Task

__all__ = ["Kernel", "LogRecord", "Module", "Task"]

_HOMES = {"Kernel": "kernel", "LogRecord": "log", "Module": "modules", "Task": "tasks"}


# A type checker that saw this would take any name for a public one.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module 'rsp.linux' has no attribute {name!r}")
        value = getattr(import_module(f"rsp.linux.{_HOMES[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
