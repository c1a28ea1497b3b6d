"""``rsp info``: the stub, the CPU mode, the stop and the threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import rsp
from rsp.cli.arguments import add_target, look_at, symbols_of
from rsp.cli.json import print_answer, stop_in_json
from rsp.cli.text import pc_text, printable
from rsp.wire.features import Features
from rsp.wire.syntax import decode_text

if TYPE_CHECKING:
    import argparse

    from rsp.remote.debuggee import Debuggee
    from rsp.session.stub import Stub

USAGE: Final = "TARGET [OPTION ...]"
EXAMPLES: Final = ("rsp info :1234",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    add_target(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print what there is to know without asking for memory."""
    with look_at(arguments) as target:
        answer = _facts(target) if arguments.json else _text(target, arguments)
    print_answer(answer)
    return 0


def _facts(target: Debuggee) -> dict[str, object]:
    return {
        "stub": {
            "name": target.stub.name,
            "packet_size": target.stub.packet_size,
            "features": _features(target.stub),
        },
        "arch": target.arch.name,
        "mode": target.mode.name,
        "threads": [{"id": thread.id, "name": thread.name} for thread in target.threads],
        "stop": stop_in_json(target.stop),
    }


def _text(target: Debuggee, arguments: argparse.Namespace) -> str:
    mode, stub = target.mode, target.stub
    pc = pc_text(symbols_of(arguments, target), target.registers)
    lines = (
        [f"core      {printable(target.path)}"]
        if isinstance(target, rsp.Core)
        else [
            f"stub      {stub.name}, packets of {stub.packet_size} characters",
            f"features  {printable(' '.join(_features(stub))) or 'none offered'}",
        ]
    )
    lines += [
        f"arch      {target.arch.name}",
        f"mode      {mode.name} ({mode.value})",
        f"stop      {printable(str(target.stop))}, pc {pc}",
    ]
    lines += [
        f"thread    {thread.id} {printable(thread.name)}".rstrip() for thread in target.threads
    ]
    return "\n".join(lines)


def _features(stub: Stub) -> list[str]:
    """Return what the stub offered, in the spelling of the packet."""
    offered = decode_text(Features(stub.features).encode())
    return offered.split(";") if offered else []
