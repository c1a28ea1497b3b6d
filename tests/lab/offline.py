"""The oracle without a target: what the real gdb says of a file.

Contents: running gdb in batch on a program, a question an answer, and reading where it puts
breakpoints. Not here: any code of the library under test.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lab.gdb import MARK, QUIET, batch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

SETTINGS = (*QUIET, "set breakpoint pending off")

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
    # From standard input, where an error does not end the script.
    command = ["gdb", "-nx", "-nh", "-q", "-ex", "set prompt", str(program)]
    said = _run(command, "".join(lines), timeout=timeout)
    answers = said.split(f"{MARK}\n")[1 + len(SETTINGS) :]
    assert len(answers) == len(questions), said[-2000:]
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


def ask_python(
    files: Sequence[str], questions: Mapping[str, Sequence[str | int]], timeout: float = 600
) -> dict[str, list[Any]]:
    """Return the answers of `gdb_symbols` by kind.

    Args:
        files: gdb's commands that open the files.
        questions: by kind, the name of a function there.
        timeout: in seconds.
    """
    script = Path(__file__).with_name("gdb_symbols.py")
    # Symbols are to be as they are: clones have names like those of other languages.
    settings = ("set demangle-style none", *SETTINGS)
    with tempfile.TemporaryDirectory() as directory:
        asked, answered = Path(directory, "questions"), Path(directory, "answers")
        asked.write_text(json.dumps(questions))
        said = _run(
            batch(*settings, *files, f"source {script}"),
            timeout=timeout,
            RSP_LAB_QUESTIONS=str(asked),
            RSP_LAB_ANSWERS=str(answered),
        )
        assert answered.exists(), said[-2000:]
        found: dict[str, list[Any]] = json.loads(answered.read_text())
        return found


def _run(command: Sequence[str], said: str = "", *, timeout: float, **environment: str) -> str:
    """Return what gdb prints, errors included."""
    finished = subprocess.run(
        command,
        input=said,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=timeout,
        check=False,
        env={**os.environ, **environment},
    )
    return finished.stdout
