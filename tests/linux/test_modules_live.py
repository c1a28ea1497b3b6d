"""The modules of running kernels, against /proc/modules, /sys/module and /proc/kallsyms."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import rsp
from lab.kernels import compress, split_debug
from rsp.linux.modules import list_modules
from rsp.linux.sections import add_sections, read_sections
from rsp.symbols.elf.image import Image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lab.guest import BootKernel, Guest
    from rsp.remote.target import Target

KERNELS = ["debian", "debian-6.12", "i386"]


@pytest.fixture
def guest(request: pytest.FixtureRequest, shared_kernel: BootKernel) -> Iterator[Guest]:
    """Share a guest with KASLR, which has no modules before and after."""
    found = shared_kernel(getattr(request, "param", "debian"), kaslr=True)
    yield found
    found.unload("dummy", "dm_mod")


def connect(guest: Guest, modules: Path | None = None) -> Target:
    return rsp.connect(guest.address, symbols=guest.symbols, modules=modules)


def sections_of(guest: Guest, module: str) -> dict[str, int]:
    """Return the addresses in /sys/module."""
    listed = guest.run(f"cd /sys/module/{module}/sections; grep 0x $(ls -A)")
    return {
        name: int(address, 16)
        for name, address in (line.split(":") for line in listed.splitlines())
    }


def addresses_of(guest: Guest, module: str) -> dict[str, int]:
    """Return the symbols of a module, as /proc/kallsyms has them."""
    lines = guest.run(f"grep -F '[{module}]' /proc/kallsyms").splitlines()
    return {name: int(address, 16) for address, _, name, _ in (line.split() for line in lines)}


def check_symbols(target: Target, expected: dict[str, int]) -> None:
    """Hold symbols of a module against the kernel's own; __this_module and the like may differ."""
    for name, address in expected.items():
        if name in target.symbols:
            assert address in {each.address for each in target.symbols.find(name)}, name


def parameters_of(guest: Guest, module: str) -> dict[str, str]:
    lines = guest.run(f"cd /sys/module/{module}/parameters; grep '' *").splitlines()
    return dict(line.split(":", 1) for line in lines)


@pytest.mark.parametrize("guest", KERNELS, indirect=True)
def test_modules(guest: Guest) -> None:
    names = ["dummy"]
    guest.run("insmod /dummy.ko numdummies=3")
    if "dm-mod" in guest.modules:
        guest.run("insmod /dm-mod.ko dm_numa_node=0")
        names = ["dm_mod", "dummy"]
    with connect(guest) as target:
        modules = rsp.linux.Kernel(target).modules()
        assert [module.name for module in modules] == names
        found = {
            module.name: (module.sections, module.parameters, module.build_id) for module in modules
        }
        listed = [
            f"{module.name} {module.size} {module.state} {module.address:#x}" for module in modules
        ]
        assert all(module.file is None for module in modules)
        assert all(module.initialized for module in modules)
    assert listed == [
        f"{name} {size} {state.lower()} {address}"
        for name, size, _, _, state, address in map(
            str.split, guest.run("cat /proc/modules").splitlines()
        )
    ]
    for name, (sections, parameters, build_id) in found.items():
        expected = sections_of(guest, name)
        per_cpu = sections.pop(".data..percpu", None)
        assert per_cpu is None
        assert sections == {
            section: at for section, at in expected.items() if not section.startswith(".init")
        }
        assert build_id
        notes = f"/sys/module/{name}/notes/.note.gnu.build-id"
        assert guest.run(f"tail -c 20 {notes} | hexdump -v -e '1/1 \"%02x\"'") == build_id.hex()
        if name == "dm_mod":
            shown = parameters_of(guest, name)
            # major has no file in sysfs.
            assert parameters == {**shown, "major": "0"}
            assert parameters["dm_numa_node"] == "0"
        else:
            assert parameters == {"numdummies": "3"}  # no file either


@pytest.mark.parametrize("guest", KERNELS, indirect=True)
def test_symbols_come_and_go(guest: Guest) -> None:
    directory = guest.modules["dummy"].parents[2]
    guest.run("insmod /dummy.ko")
    first = addresses_of(guest, "dummy")
    with connect(guest, directory) as target:
        check_symbols(target, first)
        assert target.symbols["dummy_xmit"].address == first["dummy_xmit"]
        assert str(target.symbols.locations("dummy_xmit")[0].file).endswith("dummy.c")
        target.resume(wait=False)
        guest.run("rmmod dummy")
        target.interrupt()
        assert "dummy_xmit" not in target.symbols
        target.resume(wait=False)
        if "dm-mod" in guest.modules:  # where it has been is taken by another
            guest.run("insmod /dm-mod.ko")
        guest.run("insmod /dummy.ko")
        second = addresses_of(guest, "dummy")
        target.interrupt()
        check_symbols(target, second)
        assert target.symbols["dummy_xmit"].address == second["dummy_xmit"]
        [module] = [each for each in rsp.linux.Kernel(target).modules() if each.name == "dummy"]
        assert module.file is not None  # a target has one kernel, and that has the directory


@pytest.mark.parametrize("guest", ["i386"], indirect=True)  # Debian's are signed
def test_a_module_that_was_built_anew(guest: Guest, tmp_path: Path) -> None:
    """It is loaded to where the last build was, and the file is another: so are its symbols."""
    packed = Image(guest.modules["dummy"]).named(".note.gnu.build-id")
    assert packed is not None
    at = packed.offset + packed.size - 1
    file = tmp_path / "dummy.ko"
    original = guest.modules["dummy"].read_bytes()
    file.write_bytes(original)
    guest.run("insmod /dummy.ko")
    with connect(guest, tmp_path) as target:
        [first] = rsp.linux.Kernel(target, modules=tmp_path).modules()
        place, build_id = first.place, first.build_id
        assert "dummy_xmit" in target.symbols
        other = bytearray(original.replace(b"\0dummy_xmit\0", b"\0dummy_emit\0"))
        other[at] ^= 1
        for _ in range(8):
            target.resume(wait=False)
            guest.run(
                "rmmod dummy; cp /dummy.ko /other.ko; "
                f"printf '\\x{other[at]:02x}' | dd of=/other.ko bs=1 seek={at} conv=notrunc; "
                "insmod /other.ko"
            )
            target.interrupt()
            [module] = list_modules(target.inferior)
            if module.place == place:
                break
        assert module.place == place
        assert module.build_id != build_id
        assert "dummy_xmit" in target.symbols, "nothing is known of the new build yet"
        file.unlink()
        file.write_bytes(other)
        target.invalidate()
        assert "dummy_emit" in target.symbols
        assert "dummy_xmit" not in target.symbols


@pytest.mark.live("objcopy", "xz", "zstd")
def test_files_of_modules(guest: Guest, tmp_path: Path, shared_kernel: BootKernel) -> None:
    """Files are found below a directory: packed, split, and none of another build."""
    guest.run("insmod /dummy.ko")
    expected = addresses_of(guest, "dummy")
    file = guest.modules["dummy"]
    other = shared_kernel("debian-6.12", kaslr=True).modules["dummy"]
    for case in ("xz", "zst", "debug", "wrong", "wrong-and-right"):
        directory = tmp_path / case
        below = directory / "kernel/drivers/net"
        below.mkdir(parents=True)
        match case:
            case "xz" | "zst":
                right: Path | None = compress(file, case, below)
            case "debug":
                right = split_debug(file, below)[1]
            case "wrong":
                right = None
            case _:
                right = compress(file, "xz", below)
        if case.startswith("wrong"):
            shutil.copy(other, below / "dummy.ko")
        with connect(guest, directory) as target:
            [module] = rsp.linux.Kernel(target, modules=directory).modules()
            assert module.file == (None if right is None else str(right)), case
            assert ("dummy_xmit" in target.symbols) == (right is not None)
            check_symbols(target, expected)
            if right is not None:
                assert target.symbols.line(expected["dummy_xmit"]) is not None, case


@pytest.mark.parametrize("guest", KERNELS, indirect=True)
def test_module_init(guest: Guest) -> None:
    """A stop in the init function of a module that is loaded later, line by line from there."""
    with connect(guest, guest.modules["dummy"].parent) as target:
        kernel = rsp.linux.Kernel(target, modules=guest.modules["dummy"].parent)
        assert "dummy_init_module" not in target.symbols
        point = kernel.break_on_module("dummy")
        if "dm-mod" in guest.modules:
            guest.start("insmod /dm-mod.ko")
        guest.start("insmod /dummy.ko")
        stop = target.resume(timeout=240)
        pc = target.registers.pc
        assert stop is not None
        assert stop.breakpoint is not None
        assert target.symbols["dummy_init_module"].address == pc
        backtrace = target.backtrace()
        assert [frame.function for frame in backtrace][:3] == [
            "dummy_init_module",
            "do_one_initcall",
            "do_init_module",
        ]
        assert target.value("numdummies") == 1
        line = target.symbols.line(pc)
        assert line is not None
        target.next_line()
        after = target.symbols.line(target.registers.pc)
        assert after is not None
        assert after.file == line.file
        assert after.line > line.line
        assert target.backtrace()[0].function == "dummy_init_module"
        [module] = [each for each in kernel.modules() if each.name == "dummy"]
        assert (module.state, module.initialized, module.init) == ("coming", False, pc)
        assert module.sections[".init.text"] <= pc
        point.remove()
        assert not list(target.breakpoints)
    assert sections_of(guest, "dummy")[".init.text"] == module.sections[".init.text"]
    assert "dummy0" in guest.run("ifconfig -a")


def test_module_init_without_its_file(guest: Guest) -> None:
    with connect(guest) as target:
        kernel = rsp.linux.Kernel(target)
        kernel.break_on_module("dm-mod")
        guest.start("insmod /dm-mod.ko")
        target.resume(timeout=240)
        [module] = kernel.modules()
        assert (module.name, module.init, module.state) == ("dm_mod", target.registers.pc, "coming")
        assert target.symbols.lookup(target.registers.pc) is None
        word = 8 if "rsp" in target.registers else 4
        back = int.from_bytes(target.read_memory(target.registers.sp, word), "little")
        caller = target.symbols.lookup(back)
        assert caller is not None
        assert caller.name == "do_one_initcall"


def test_module_that_does_not_come(guest: Guest) -> None:
    with connect(guest, guest.modules["dummy"].parent) as target:
        kernel = rsp.linux.Kernel(target)
        point = kernel.break_on_module("dummy")
        assert "do_init_module" in str(target.breakpoints)
        guest.start("insmod /dm-mod.ko")
        with pytest.raises(rsp.RspTimeout):
            target.resume(timeout=1.5)
        target.interrupt()
        assert [module.name for module in kernel.modules()] == ["dm_mod"]
        # Once it is removed, the module may come.
        point.remove()
        assert not target.breakpoints
        guest.start("insmod /dummy.ko")
        with pytest.raises(rsp.RspTimeout):
            target.resume(timeout=1.0)
        target.interrupt()
        assert [module.name for module in kernel.modules()] == ["dummy", "dm_mod"]


def copy_of_sections(guest: Guest, directory: Path) -> None:
    """Copy /sys/module/*/sections out of the guest."""
    for module in guest.run("cut -d ' ' -f 1 /proc/modules").split():
        place = directory / "sys/module" / module / "sections"
        place.mkdir(parents=True)
        for name, address in sections_of(guest, module).items():
            (place / name).write_text(f"{address:#018x}\n")


@pytest.mark.parametrize("guest", ["debian", "i386"], indirect=True)
def test_copied_sections(guest: Guest, tmp_path: Path) -> None:
    """What people copy by hand is read as well: section files, and gdb's own lines of them."""
    guest.run("insmod /dummy.ko")
    expected = addresses_of(guest, "dummy")
    copy_of_sections(guest, tmp_path)
    sections = read_sections(tmp_path)
    assert sections == {"dummy": sections_of(guest, "dummy")}
    file = guest.modules["dummy"]
    table = rsp.SymbolTable(guest.symbols)
    assert add_sections(table, tmp_path, file.parent) == ("dummy",)
    assert table["dummy_xmit"].address == expected["dummy_xmit"]

    text = sections["dummy"][".text"]
    others = " ".join(f"-s {name} {at:#x}" for name, at in sections["dummy"].items()
                      if name != ".text")  # fmt: skip
    script = tmp_path / "modules.gdb"
    script.write_text(f"add-symbol-file {file} {text:#x} {others}\n")
    for where in (tmp_path / "sys", script):
        shown = subprocess.run(
            [sys.executable, "-m", "rsp", "sym", guest.symbols, f"{expected['dummy_xmit']:#x}",
             "--symbol-script", where, "--modules", file.parent],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        assert "dummy_xmit" in shown


def test_a_breakpoint_in_a_module_says_why_there_are_none(guest: Guest) -> None:
    guest.run("insmod /dummy.ko")
    with rsp.connect(guest.address, symbols=guest.symbols, on_exit="leave stopped") as target:
        kept = target.read_memory("modules", 8)
        target.write_memory("modules", bytes(8))
    try:
        directory = guest.modules["dummy"].parent
        with rsp.connect(
            guest.address, symbols=guest.symbols, modules=directory, on_exit="leave stopped"
        ) as target:
            why = "no .*dummy_xmit.*modules are not known.*list of modules makes no sense"
            with pytest.raises(rsp.SymbolNotFound, match=why):
                target.breakpoint("dummy_xmit")
            with pytest.raises(rsp.SymbolNotFound, match=why):
                target.read_memory("dummy_xmit", 1)
            target.write_memory("modules", kept)
    finally:
        with rsp.connect(guest.address, symbols=guest.symbols) as target:
            target.write_memory("modules", kept)
    with connect(guest, guest.modules["dummy"].parent) as target:
        assert target.breakpoint("dummy_xmit").locations
