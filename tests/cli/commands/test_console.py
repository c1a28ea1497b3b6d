"""``rsp console`` at a terminal: the prompt at a stop, which Ctrl-C does not end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.terminal import Terminal

if TYPE_CHECKING:
    from lab.guest import BootKernel

CTRL_C = "\x03"
PROMPT = "(rsp)"


def test_the_prompt_survives_ctrl_c(boot_kernel: BootKernel) -> None:
    guest = boot_kernel("x86_64", append="kgdboc=ttyS0,115200", ports=("telnet", "shell"))
    words = ("console", guest.ports[0], "--symbols", str(guest.symbols), "--timeout", "30")
    with Terminal(*words, columns=200, rows=100) as terminal:

        def prompted(*before: str) -> bool:
            lines = terminal.lines
            told = [line for line in before if line in terminal.text]
            return bool(lines) and lines[-1] == PROMPT and told == list(before)

        terminal.wait_for(lambda: "Ctrl-] b stops the kernel" in terminal.text)
        terminal.type("\x1db")
        terminal.wait_for(lambda: prompted("kgdb_breakpoint"))
        # At an empty line, and behind something typed, which is dropped.
        terminal.type(CTRL_C)
        terminal.wait_for(lambda: prompted() and terminal.lines[-2] == f"{PROMPT} ^C")
        terminal.type("half a comm")
        terminal.wait_for(lambda: terminal.lines[-1] == f"{PROMPT} half a comm")
        terminal.type(CTRL_C)
        terminal.wait_for(lambda: prompted() and terminal.lines[-2] == f"{PROMPT} half a comm^C")
        # While a command runs, or just behind it.
        terminal.type(f"ps A\n{CTRL_C}")
        terminal.wait_for(lambda: prompted() and not terminal.lines[-2].endswith("comm^C"))
        terminal.type("summary\n")
        terminal.wait_for(lambda: prompted("sysname"))
        assert "half a comm" not in terminal.text.rpartition("^C")[2]
        terminal.type("c\n")
        guest.run("true")
        terminal.type("\x1dq")
        assert terminal.finish() == 0, terminal.text
    guest.run("true")
