"""A vmlinux with symbols and BTF, and without DWARF, as distributions' header packages have it."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

import rsp
from lab.command import run
from rsp.linux import Kernel
from rsp.symbols.table import SymbolTable
from rsp.symbols.types.kernel_variables import KERNEL_VARIABLES

if TYPE_CHECKING:
    from pathlib import Path

    from lab.guest import BootKernel
    from lab.kernels import DebianKernel

pytestmark = pytest.mark.live("objcopy", "gcc")


@pytest.fixture(scope="module")
def stripped(debian_kernel: DebianKernel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("stripped") / "vmlinux"
    subprocess.run(["objcopy", "--strip-debug", debian_kernel.vmlinux, made], check=True)
    return made


def test_the_table_of_variables_is_what_dwarf_says(
    debian_kernel: DebianKernel, stripped: Path
) -> None:
    full, bare = SymbolTable(debian_kernel.vmlinux), SymbolTable(stripped)
    present = [name for name in KERNEL_VARIABLES if name in full]
    assert len(present) > 0.8 * len(KERNEL_VARIABLES)
    for name in present:
        if name == "init_top_pgt":  # an array without bounds in C, with those of the symbol here
            continue
        known = bare.variable(name)
        expected = full.variable(name)
        assert (str(known.type), known.address) == (str(expected.type), expected.address), name


def test_a_variable_that_is_another_has_no_type(tmp_path: Path) -> None:
    """There is no BTF of a kernel to be wrong about: the table is not asked."""
    source, program = tmp_path / "main.c", tmp_path / "program"
    source.write_text("long modules[7]; int _start(void) { return 0; }\n")
    subprocess.run(["gcc", "-nostdlib", "-static", "-no-pie", "-o", program, source], check=True)
    assert SymbolTable(program).variable("modules").type is None


def test_modules_log_and_variables(shared_kernel: BootKernel, stripped: Path) -> None:
    guest = shared_kernel("debian")
    guest.run("insmod /dummy.ko")
    answers = []
    for symbols in (guest.symbols, stripped):
        with rsp.connect(guest.address, symbols=symbols) as target:
            kernel = Kernel(target)
            modules = [
                (each.name, each.address, each.state, each.size) for each in kernel.modules()
            ]
            log = [record.text for record in kernel.log()][:40]
            values = [
                str(target.value(text))
                for text in (
                    *("init_task.comm", "init_task.pid", "prb->desc_ring.count_bits"),
                    *("linux_banner", "system_state", "sizeof(init_mm)", "modules.next->next"),
                    *("__per_cpu_offset[0]", "boot_cpu_data.x86_vendor_id", "nr_cpu_ids"),
                )
            ]
            answers.append((modules, log, values, kernel.banner, kernel.cmdline))
    assert answers[0] == answers[1]
    assert "dummy" in [name for name, *_ in answers[0][0]]
    assert len(answers[0][1]) == 40
    for command in ("modules", "dmesg", "tasks"):
        shown = run(command, guest.address, "--symbols", str(stripped))
        assert (shown.status, shown.err) == (0, ""), command
        assert shown.out
    guest.unload("dummy")
