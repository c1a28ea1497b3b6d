"""``rsp tasks``: all tasks of a kernel, as ``ps`` lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rsp.cli.arguments import add_target
from rsp.cli.json import print_json
from rsp.cli.kernel import connect_kernel
from rsp.cli.text import printable

if TYPE_CHECKING:
    import argparse

USAGE: Final = "TARGET --symbols FILE [OPTION ...]"
EXAMPLES: Final = ("rsp tasks :1234 --symbols vmlinux",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    add_target(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print all threads, by their start."""
    with connect_kernel(arguments) as kernel:
        tasks = [
            {
                "pid": task.pid,
                "comm": task.comm,
                "address": f"{task.address:#x}",
                "state": task.state,
                "cpu": task.cpu,
                "tgid": task.tgid,
                "kernel": task.is_kernel_thread,
            }
            for task in kernel.tasks()
        ]
    if arguments.json:
        print_json({"tasks": tasks})
        return 0
    print(f"{'PID':>7} {'TGID':>7} {'CPU':>3} S {'TASK':18} COMM")
    for task in tasks:
        name = printable(str(task["comm"]))
        print(
            f"{task['pid']:>7} {task['tgid']:>7} {task['cpu']:>3} {task['state']} "
            f"{task['address']:18} {f'[{name}]' if task['kernel'] else name}"
        )
    return 0
