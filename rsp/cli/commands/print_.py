"""``rsp print``: the value of a C expression.

Not here: expressions and gdb's text of a value (see `rsp.values`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rsp.cli.arguments import add_target, look_at
from rsp.cli.json import print_answer
from rsp.cli.text import printable
from rsp.cli.values import bare_value

if TYPE_CHECKING:
    import argparse

    from rsp.values.value import Value

USAGE: Final = "TARGET EXPR [OPTION ...]"
EXAMPLES: Final = (
    "rsp print :1234 init_task.comm --symbols vmlinux",
    "rsp print :1234 '*init_task.cred' --symbols vmlinux --json",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    add_target(parser)
    parser.add_argument(
        "expression",
        metavar="EXPR",
        help="init_task.comm, '((struct task_struct *)0xffff…)->pid', '*ptr', '$sp'; "
        "runqueues[0] for CPU 0 of a per-CPU variable; \"'printk.c'::prb\" for a file's own",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print what gdb's ``print`` shows."""
    with look_at(arguments) as target:
        value = target.value(arguments.expression)
        answer = _in_json(arguments.expression, value) if arguments.json else printable(str(value))
    print_answer(answer)
    return 0


def _in_json(expression: str, value: Value) -> dict[str, object]:
    return {
        "expression": expression,
        "type": str(value.type_),
        "value": bare_value(value),
        "text": str(value),
    }
