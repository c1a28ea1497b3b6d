"""The lab itself: an oracle that misreads, or a fixture that does not skip, would hide faults."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab import packages
from lab.gdb import Gdb, GdbError, parse_memory, parse_registers
from lab.inner_pytest import TESTS, run_pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.servers import StartServer


def row(number: int, size: int) -> int:
    """What subject.c fills vector register `number` with."""
    return int.from_bytes(bytes((8 * number + i) % 256 for i in range(size)), "little")


# What gdb 13.1 prints, one line of each kind.
ALL_REGISTERS = """\
rax            0x4050c0            4214976
rsp            0x7fffffffe540      0x7fffffffe540
rip            0x4025dd            0x4025dd <fill_vectors+18>
eflags         0x206               [ PF IF ]
st0            3.1415926535897932385 (raw 0x4000c90fdaa22168c235)
st1            -nan(0xc000000000000000) (raw 0xffffc000000000000000)
fctrl          0x37f               895
xmm0           {v4_float = {0x0, 0x0}, v2_int64 = {0x706050403020100, 0xf0e0d0c0b0a0908}, \
uint128 = 0xf0e0d0c0b0a09080706050403020100}
ymm0           {v8_float = {0x0, 0x0}, v2_int128 = {0x1, 0x2}}
zmm0           {v16_float = {0x0, 0x0}, v4_int128 = {0x1, 0x2, 0x3, 0x4}}
fs_base        <unavailable>
"""


def test_registers_are_read_from_what_gdb_prints() -> None:
    assert parse_registers(ALL_REGISTERS) == {
        "rax": 0x4050C0,
        "rsp": 0x7FFFFFFFE540,
        "rip": 0x4025DD,
        "eflags": 0x206,
        "st0": 0x4000C90FDAA22168C235,
        "st1": 0xFFFFC000000000000000,
        "fctrl": 0x37F,
        "xmm0": 0x0F0E0D0C0B0A09080706050403020100,
        "ymm0": 0x2 << 128 | 0x1,
        "zmm0": 0x4 << 384 | 0x3 << 256 | 0x2 << 128 | 0x1,
        "fs_base": None,
    }


@pytest.mark.parametrize("text", ["Remote connection closed", "rax  nonsense", "rax"])
def test_an_answer_without_registers_is_not_taken_for_one(text: str) -> None:
    with pytest.raises(GdbError):
        parse_registers(text)


def test_memory_is_read_from_what_gdb_prints() -> None:
    assert parse_memory("0x10 <a>:\t0xff\t0x00\n0x12 <a+2>:\t0x7f") == b"\xff\x00\x7f"
    with pytest.raises(GdbError, match="Cannot access"):
        parse_memory("0x10:\tCannot access memory at address 0x10")


def test_gdb_reports_that_nobody_listens(gdb: type[Gdb]) -> None:
    with pytest.raises(GdbError, match="could not connect"):
        gdb(address="127.0.0.1:1").registers()


def test_the_oracle_reads_a_program_under_gdbserver(
    gdb: type[Gdb], gdbserver: StartServer, build_program: Callable[[str], Path]
) -> None:
    program = build_program("subject.c")
    stub = gdb(address=gdbserver(), symbols=program, settings=(f"set sysroot {program.anchor}",))
    stub.run("break vectors_filled", "continue")
    registers = stub.registers()
    # The stop is still there, and every CPU that runs the tests has SSE.
    assert stub.value("$pc") == stub.value("&vectors_filled")
    assert [registers[f"xmm{n}"] for n in range(16)] == [row(n, 16) for n in range(16)]
    rax = registers["rax"]
    assert rax is not None
    assert (registers["eax"], registers["al"]) == (rax & 0xFFFFFFFF, rax & 0xFF)
    if "ymm0" in registers:
        assert [registers[f"ymm{n}"] for n in range(16)] == [row(n, 32) for n in range(16)]
    stub.run("break visit", "continue")
    assert "visit (amount=1)" in stub.backtrace()
    assert stub.value("watched") == 0x1000
    assert stub.memory(stub.value("&greeting"), 5) == b"hello"
    assert len(stub.run("info threads")[0].splitlines()) == 1 + 3
    assert "exited with code 07" in stub.run("delete", "continue")[1]


def test_the_i386_program_under_gdbserver(
    gdb: type[Gdb], gdbserver: StartServer, build_program: Callable[[str], Path]
) -> None:
    stub = gdb(
        address=gdbserver(source="subject32.S", pipe=True), symbols=build_program("subject32.S")
    )
    answers = stub.run(
        "break filled", "continue", "info all-registers", "info registers xmm0", "continue"
    )
    registers = parse_registers(f"{answers[2]}\n{answers[3]}")
    assert (registers["edi"], registers["esi"]) == (0x07070707, 0x06060606)
    assert registers["st0"] == 0x4000C90FDAA22168C235
    assert registers["xmm0"] == int.from_bytes(b"sixteen bytes 32", "little")
    assert "exited with code 07" in answers[4]


def test_the_subject_under_valgrind(
    gdb: type[Gdb], vgdb: StartServer, build_program: Callable[[str], Path]
) -> None:
    stub = gdb(address=vgdb(), symbols=build_program("subject.c"))
    answers = stub.run("break visit", "continue", "output/x watched", "info registers rip")
    assert answers[2] == "0x1000"
    assert "<visit+" in answers[3]


@pytest.mark.live("gcc")
def test_the_subject_does_what_its_comment_says(build_program: Callable[[str], Path]) -> None:
    program = build_program("subject.c")
    assert build_program("subject.c") == program  # the second time from the cache
    status = {word: subprocess.run([program, word]).returncode for word in ("", "signal", "crash")}
    assert status == {"": 7, "signal": 7, "crash": -11}


# -- the rules of tests/conftest.py, on test files of their own -------------------------------


LIVE_TEST_WITHOUT_ITS_PROGRAM = """
    import pytest
    from lab import packages
    packages.PACKAGES["nonesuch"] = "nonesuch-package"

    @pytest.mark.live("nonesuch")
    def test_live(): raise AssertionError("ran")
"""


def test_a_live_test_without_its_program_is_skipped_and_says_what_to_install(
    tmp_path: Path,
) -> None:
    status, output = run_pytest(tmp_path, LIVE_TEST_WITHOUT_ITS_PROGRAM)
    assert status == 0
    assert "1 skipped" in output
    assert "apt-get install nonesuch-package" in output


def test_under_lab_required_that_is_a_failure(tmp_path: Path) -> None:
    status, output = run_pytest(tmp_path, LIVE_TEST_WITHOUT_ITS_PROGRAM, RSP_LAB="required")
    assert status == 1
    assert "1 error" in output  # failed in its setup
    assert "RSP_LAB=required, but: " in output
    assert "apt-get install nonesuch-package" in output


def test_under_lab_required_any_skip_is_a_failure(tmp_path: Path) -> None:
    source = """
        import pytest

        @pytest.fixture(scope="session")
        def absent(): pytest.skip("not here")

        @pytest.mark.live
        def test_live(): pytest.skip("not today")

        def test_other(): pytest.skip("not as this user")

        @pytest.mark.skipif(True, reason="not now")
        def test_conditional(): ...

        def test_fixture(absent): ...
        def test_the_same_again(absent): ...
    """
    status, output = run_pytest(tmp_path / "free", source)
    assert (status, "5 skipped" in output) == (0, True)
    status, output = run_pytest(tmp_path / "strict", source, RSP_LAB="required")
    assert status == 1
    assert "2 failed, 3 errors" in output
    reasons = ("not today", "not as this user", "not now", "not here", "not here")
    assert output.count("RSP_LAB=required, but: ") == len(reasons)
    assert all(f"RSP_LAB=required, but: {reason}" in output for reason in reasons)


def test_under_lab_required_a_file_that_is_skipped_is_a_failure(tmp_path: Path) -> None:
    source = """
        import pytest

        pytest.skip("no file today", allow_module_level=True)
    """
    status, output = run_pytest(tmp_path / "free", source)
    assert (status, "1 skipped" in output) == (5, True)  # no tests were there to run
    status, output = run_pytest(tmp_path / "strict", source, RSP_LAB="required")
    assert status not in (0, 5)
    assert "RSP_LAB=required, but: no file today" in output


def test_a_process_left_behind_fails_the_run_and_is_ended(tmp_path: Path) -> None:
    source = """
        import pathlib, subprocess

        def test_leaves_a_grandchild():
            # setsid: not even a child, as a daemon would be.
            command = "setsid sleep 600 >&- 2>&- & echo $!"
            pid = subprocess.run(["sh", "-c", command], stdout=subprocess.PIPE).stdout
            pathlib.Path("pid").write_bytes(pid)
    """
    status, output = run_pytest(tmp_path, source, RSP_LAB_PATIENCE="1")
    assert status == 1
    assert "left processes behind" in output
    pid = int((tmp_path / "pid").read_text())
    stat = Path(f"/proc/{pid}/stat")
    assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_run_that_is_told_to_end_ends_what_it_has_started(tmp_path: Path) -> None:
    source = """
        import os, pathlib, signal
        import pytest

        @pytest.fixture(scope="session")
        def machine():
            yield
            pathlib.Path("ended").touch()

        def test_told_to_end(machine):
            os.kill(os.getpid(), signal.SIGTERM)
    """
    status, _ = run_pytest(tmp_path, source)
    assert status == pytest.ExitCode.INTERRUPTED
    assert (tmp_path / "ended").exists()


@pytest.mark.live("make", "dpkg-deb")
def test_a_program_that_a_test_does_not_declare_is_missing_for_it(tmp_path: Path) -> None:
    source = """
        import subprocess
        import pytest

        def run(*command): subprocess.run(command, check=True)

        @pytest.mark.live("make")
        def test_declared(): run("make", "--version")

        @pytest.mark.live("dpkg-deb")
        def test_another_is_declared(): run("make", "--version")

        def test_undeclared(): run("make", "--version")

        def test_undeclared_in_a_shell(): run("sh", "-c", "make --version")

        @pytest.fixture(scope="module")
        def made(): run("make", "--version")

        @pytest.mark.live("make")
        def test_what_others_share(made): ...

        def test_what_is_shared_and_undeclared(made): ...
    """
    _, output = run_pytest(tmp_path, source)
    assert "3 failed, 1 passed, 2 errors" in output
    assert "No such file or directory: 'make'" in output
    for name in ("another_is_declared", "undeclared", "undeclared_in_a_shell"):
        assert f"FAILED test_sample.py::test_{name} " in output
    for name in ("what_others_share", "what_is_shared_and_undeclared"):
        assert f"ERROR test_sample.py::test_{name} " in output


def test_a_need_that_is_not_in_the_table_ends_the_run(tmp_path: Path) -> None:
    source = """
        import pytest

        @pytest.mark.live("sh")
        def test_live(): ...
    """
    status, output = run_pytest(tmp_path, source)
    assert status == pytest.ExitCode.USAGE_ERROR
    assert "test_sample.py::test_live: not in tests/lab/packages.py: {'sh'}" in output


def test_what_a_test_needs_is_known_before_it_runs() -> None:
    """A fixture that a test asks for by its name as it runs is none that pytest knows of before."""
    asking = "getfixture" + "value"
    found = [path for path in TESTS.rglob("*.py") if asking in path.read_text(encoding="utf-8")]
    assert found == []


def test_every_program_has_its_package() -> None:
    needed = {program for programs in packages.FIXTURES.values() for program in programs}
    assert needed | {*packages.OBTAIN} <= packages.PACKAGES.keys()


def test_the_packages_of_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert packages.missing() == []
    assert packages.missing("gdb", "gcc", "valgrind", "vgdb") == [
        "gcc",
        "gdb",
        "libc6-dev",
        "valgrind",
    ]
