"""A stack of thousands of frames, whole and its outer end, against gdb."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

import rsp
from lab import programs
from lab.gdb import Gdb
from lab.servers import gdbserver_tcp
from rsp.cli.run import main

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def deep() -> Iterator[Gdb]:
    """Return gdb on a program that stands still 4,501 calls below main."""
    program = programs.build("deep.c")
    with gdbserver_tcp(program) as address:
        gdb = Gdb(address=address, symbols=program)
        gdb.run("break bottom", "continue")
        yield gdb


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("#")]


@pytest.mark.live("gdb", "gdbserver", "gcc")
def test_all_of_it_and_its_outer_end(deep: Gdb, capsys: pytest.CaptureFixture[str]) -> None:
    whole, end = deep.run("bt", "bt -3")
    with rsp.connect(deep.address, symbols=deep.symbols, on_exit="leave stopped") as target:
        found = target.backtrace(limit=10_000)
        assert lines(str(found)) == lines(whole)
        assert len(found) == 4503
        assert found.complete
        outer = target.backtrace(outermost=3)
        assert [frame.level for frame in outer] == [4500, 4501, 4502]
        assert lines(str(outer)) == lines(end)
        assert target.thread is not None
        assert str(target.thread.backtrace(outermost=1)) == lines(end)[-1]
        cut = target.backtrace()
        assert len(cut) == 4096
        assert cut.end_reason == "there are more than 4096 frames"
        for wrong in (0, -1, True, "3", 1 << 40):
            with pytest.raises(rsp.ArgumentError, match=r"^outermost is .*number of frames"):
                target.backtrace(outermost=wrong)  # type: ignore[arg-type]
    options = ["--symbols", str(deep.symbols), "--leave-stopped"]
    assert main(["bt", deep.address, "--outermost", "3", *options]) == 0
    assert lines(capsys.readouterr().out) == lines(end)
    assert main(["bt", deep.address, "--outermost", "0", *options]) == 1
    assert re.search("outermost is 0", capsys.readouterr().err)
