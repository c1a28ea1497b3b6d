"""The examples in the docstrings of what users hold are true, on a machine."""

from __future__ import annotations

import doctest
import inspect
from typing import TYPE_CHECKING

import pytest

import rsp
from rsp.testing.boot import ELF

if TYPE_CHECKING:
    from lab.servers import BootQemu

METHODS = {
    name: method
    for name, method in inspect.getmembers(rsp.Target, inspect.isfunction)
    if not name.startswith("_")
}
# Only a kernel with kgdb has kdb: tests/live/test_kgdb_line.py enters it.
ELSEWHERE = {"enter_kdb"}
FROM_RESET = {"run_until_mode"}
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.mark.live("qemu-system-x86_64")
@pytest.mark.parametrize("name", sorted(METHODS.keys() - ELSEWHERE))
def test_the_example_of(name: str, boot_qemu: BootQemu) -> None:
    """Each is on a boot sector; most stand at the begin of its function ``tick``."""
    text = inspect.getdoc(METHODS[name]) or ""
    said: list[str] = []
    with rsp.connect(boot_qemu().address, symbols=ELF, timeout=60) as target:
        if name not in FROM_RESET:
            target.until("tick", timeout=60)
        names = {"rsp": rsp, "target": target}
        example = doctest.DocTestParser().get_doctest(text, names, name, None, 0)
        assert example.examples
        doctest.DocTestRunner(optionflags=FLAGS).run(example, out=said.append, clear_globs=False)
    assert not said, "".join(said)
