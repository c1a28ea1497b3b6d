"""The command ``rsp``.

Contents: `run` and `help`, which are the same for all commands; what several commands have in
common (`arguments`, `text`, `json`, `values`, `frames`, `progress`, `kernel`, and for recordings
`listen`, `relay` and `playback`); and in `commands` one module a command.
"""

from rsp.cli.help import COMMANDS
from rsp.cli.run import main

__all__ = ["COMMANDS", "main"]
