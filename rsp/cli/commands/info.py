"""``rsp info``: the stub, the CPU mode, the stop and the threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rsp.cli.arguments import add_target, connect, symbols_of
from rsp.cli.json import print_json, stop_in_json
from rsp.cli.text import pc_text, printable
from rsp.wire.features import Features
from rsp.wire.syntax import decode_text

if TYPE_CHECKING:
    import argparse

    from rsp.target.stub import Stub
    from rsp.target.target import Target

USAGE: Final = "TARGET [OPTION ...]"
EXAMPLES: Final = ("rsp info :1234",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    add_target(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print what there is to know without asking for memory."""
    with connect(arguments) as target:
        if arguments.json:
            print_json(_facts(target))
        else:
            _print(target, arguments)
    return 0


def _facts(target: Target) -> dict[str, object]:
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


def _print(target: Target, arguments: argparse.Namespace) -> None:
    # All questions come before the first line: an error is not to follow half an answer.
    mode, stub, threads = target.mode, target.stub, target.threads
    names = [printable(thread.name) for thread in threads]
    pc = pc_text(symbols_of(arguments, target), target.registers)
    print(f"stub      {stub.name}, packets of {stub.packet_size} characters")
    print(f"features  {printable(' '.join(_features(stub))) or 'none offered'}")
    print(f"arch      {target.arch.name}")
    print(f"mode      {mode.name} ({mode.value})")
    print(f"stop      {printable(str(target.stop))}, pc {pc}")
    for thread, name in zip(threads, names, strict=True):
        print(f"thread    {thread.id} {name}".rstrip())


def _features(stub: Stub) -> list[str]:
    """Return what the stub offered, in the spelling of the packet."""
    offered = decode_text(Features(stub.features).encode())
    return offered.split(";") if offered else []
