"""The oracle without a target: what the real gdb says of a file.

Here lives: running gdb in batch on a program, a question an answer, and reading where it puts
breakpoints. Here must not live: any code of the library under test.
"""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

MARK = "--- rsp lab: next answer ---"
SETTINGS = (
    *("set confirm off", "set pagination off", "set width 0", "set style enabled off"),
    *("set auto-load off", "set debuginfod enabled off", "set breakpoint pending off"),
)

# "1.2   y   0x401136 in list_add at list.h:38"; without a function "0x401136 a.S:5", and without
# lines "0x401136 <name+4>".
PLACE = re.compile(
    r"^\d+(?:\.\d+)?\s+(?:breakpoint\s+keep\s+)?y\s+(0x[0-9a-f]+)"
    r"(?: in (\S+) at (\S+):(\d+)| <\S+>| (\S+):(\d+))?$",
    re.MULTILINE,
)


class Place(NamedTuple):
    """A location of a breakpoint, as ``info breakpoints`` has it."""

    address: int
    function: str | None
    file: str | None
    line: int


def ask(program: Path | str, questions: Iterable[str], timeout: float = 600) -> list[str]:
    """Return what gdb prints for each command, errors included."""
    questions = list(questions)
    lines = [f"echo \\n{MARK}\\n\n{question}\n" for question in (*SETTINGS, *questions)]
    finished = subprocess.run(
        # From standard input, where an error does not end the script.
        ["gdb", "-nx", "-nh", "-q", "-ex", "set prompt", program],
        input="".join(lines),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=timeout,
        check=False,
    )
    answers = finished.stdout.split(f"{MARK}\n")[1 + len(SETTINGS) :]
    assert len(answers) == len(questions), finished.stdout[-2000:]
    return [answer.removesuffix("\n") for answer in answers]


def breakpoints(program: Path | str, specs: Iterable[str]) -> dict[str, list[Place]]:
    """Return the locations of a breakpoint at each text; none where gdb knows no such place."""
    specs = list(specs)
    commands = [line for spec in specs for line in (f"break {spec}", "info breakpoints", "delete")]
    answers = ask(program, commands)[1::3]
    found = {}
    for spec, answer in zip(specs, answers, strict=True):
        places = [
            Place(
                int(match[1], 16),
                match[2],
                match[3] or match[5],
                int(match[4] or match[6] or 0),
            )
            for match in PLACE.finditer(answer)
        ]
        found[spec] = sorted(set(places))
    return found
