"""The command ``rsp``.

Here live: one module a command, and `run` for what is the same for all. Here must not live: any
code, in this file: the modules ``list`` and ``type`` become names of the package, and would stand
before Python's own.
"""

from rsp.cli.run import COMMANDS, main

__all__ = ["COMMANDS", "main"]
