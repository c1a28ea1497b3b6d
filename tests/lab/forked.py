"""The command ``rsp`` in processes that have imported everything: what they do is its work alone.

    with Forked() as forked:
        pid = forked.start("info", address)      # a process of its own, for signals to be sent to
        forked.finish()                          # its exit status, negative for a signal

Contents: how they are started. Each is forked from a server, which this file is run as. Not here:
what is done to them.
"""

from __future__ import annotations

import json
import os
import pkgutil
import signal
import subprocess
import sys
from importlib import import_module
from typing import Self


class Forked:
    """Starts commands, one after the other; a context manager."""

    def __enter__(self) -> Self:
        self._server = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        with self._server:
            assert self._server.stdin is not None
            self._server.stdin.close()  # which ends it

    def start(self, *args: str) -> int:
        """Start ``rsp`` with arguments, and return its process id."""
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(args).encode() + b"\n")
        self._server.stdin.flush()
        return self._said()

    def finish(self) -> int:
        """Wait until it has ended, and return its exit status."""
        return self._said()

    def _said(self) -> int:
        assert self._server.stdout is not None
        line = self._server.stdout.readline()
        assert line, "the server of commands has ended"
        return int(line)


def serve() -> None:
    """Fork a process for each command on the standard input."""
    import rsp
    from rsp.cli import main

    for module in pkgutil.walk_packages(rsp.__path__, "rsp."):
        if not module.name.startswith(("rsp.testing", "rsp.__main__")):
            import_module(module.name)
    # A shell, or nohup, may have let this run ignore them.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            sink = os.open(os.devnull, os.O_RDWR)
            for descriptor in range(3):
                os.dup2(sink, descriptor)
            sys.exit(main(json.loads(line)))
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    serve()
