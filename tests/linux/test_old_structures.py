"""Modules and tasks in the structures of kernels old and new; and memory that makes no sense."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rsp
from lab.structures import changed
from rsp.linux.modules import list_modules
from rsp.linux.tasks import list_tasks

if TYPE_CHECKING:
    from lab.structures import Structures
    from rsp.remote.target import Target

pytestmark = pytest.mark.live("gdbserver", "gcc")

MODULES = [
    ("-DMEMORY=1", "-DSECTIONS=1", "-m64"),
    ("-DMEMORY=1", "-DSECTIONS=1", "-m32"),
    ("-DMEMORY=2", "-DSECTIONS=1", "-m64"),
    ("-DMEMORY=2", "-DSECTIONS=2", "-m32"),
    ("-DMEMORY=3", "-DSECTIONS=2", "-m64"),
    ("-DMEMORY=3", "-DSECTIONS=3", "-m64"),
    ("-DMEMORY=3", "-DSECTIONS=4", "-m32"),
]


@pytest.mark.parametrize("options", MODULES, ids="".join)
def test_modules(structures: Structures, options: tuple[str, ...]) -> None:
    target = structures("old_modules.c", *options)
    first, second, third = list_modules(target.inferior)
    shown = [(each.name, each.state, each.address, each.size) for each in (first, second, third)]
    assert shown == [
        ("first", "live", 0x1000, 0x4000),
        ("second", "going", 0x2000, 0x2000),
        ("third", "coming", 0x3000, 0x4000),
    ]
    note = target.symbols["note"].address
    assert first.sections == {".text": 0x1000, ".note.gnu.build-id": note, ".data..percpu": 0x20}
    assert third.sections == {".text": 0x3000, ".init.text": 0x5000}
    with pytest.raises(rsp.SymbolError, match="does not note where the sections"):
        second.sections  # noqa: B018 - it raises
    assert (first.build_id, third.build_id) == (bytes(range(1, 9)), None)
    assert (first.initialized, second.initialized, third.initialized) == (True, True, False)
    assert (second.init, third.init) == (None, target.symbols["start"].address)
    long = -70000
    assert first.parameters == {
        "minus": "-5", "many": "4000000000", "byte": "200", "small": "-300", "large": str(long),
        "huge": str((1 << 64) - 1), "hex": "0x00beef", "yes": "Y", "no": "N", "inverse": "N",
        "bint": "Y", "text": "some text", "none": "(null)", "string": "eth0", "array": "1,-2,3",
        "whole": "1,-2,3,4", "own": None,
    }  # fmt: skip
    assert second.parameters == {}


@pytest.mark.parametrize("width", ["-m64", "-m32"])
@pytest.mark.parametrize("form", [1, 2, 3])
def test_tasks(structures: Structures, form: int, width: str) -> None:
    target = structures("old_tasks.c", f"-DOLD={form}", width)
    tasks = list_tasks(target.inferior)
    assert [
        (each.pid, each.tgid, each.comm, each.state, each.cpu, each.is_kernel_thread)
        for each in tasks
    ] == [
        (2, 2, "kthreadd", "I", 1, True),
        (10, 10, "fifteen-letters", "S", 2, False),
        (11, 10, "second", "D", 3, False),
        (12, 10, "\\xff third", "R", 1, False),
        (13, 13, "ended", "Z", 0, False),
    ]
    assert [each.pid for each in tasks if each.is_running] == [12]
    kthreadd, leader, second, _, ended = tasks
    assert ended.parent is not None
    assert ended.parent.pid == leader.pid
    assert kthreadd.parent is not None
    assert kthreadd.parent.parent is None
    # From each of them, all of them, itself first.
    assert [each.pid for each in second.threads()] == [11, 12, 10]
    assert [each.pid for each in ended.threads()] == [13]
    assert target.value("&leader") == leader.address
    assert leader.value["comm"].string_() == b"fifteen-letters"


# --- memory that makes no sense ---

NUMBERS = st.sampled_from([0, 1, 8, 4095, 1 << 31, (1 << 32) - 1, 1 << 47, (1 << 63) - 1, -1, -64])


def read_all(target: Target) -> None:
    for module in list_modules(target.inferior):
        repr(module)
        for read in ("sections", "build_id", "parameters", "init", "initialized"):
            with contextlib.suppress(rsp.StubError, rsp.SymbolError):
                getattr(module, read)


@pytest.mark.parametrize("options", [MODULES[0], MODULES[3], MODULES[5]], ids="".join)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    place=st.sampled_from(
        [
            "modules.next",
            "first_module.list.next",
            "first_module.state",
            "first_module.kp",
            "first_module.num_kp",
            "first_module.sect_attrs",
            "third_module.list.next",
            "first_sections.SECTIONS",
            "parameters[0].ops",
            "parameters[0].arg",
            "parameters[11].arg",
            "parameters[13].str",
            "parameters[14].arr",
            "string.string",
            "array.num",
            "array.max",
            "array.elemsize",
            "array.elem",
            "array.ops",
        ]
    ),
    number=NUMBERS,
)
def test_hostile_modules(
    structures: Structures, options: tuple[str, ...], place: str, number: int
) -> None:
    target = structures("old_modules.c", *options)
    list_or_number = "nsections" if "-DSECTIONS=3" not in options else "grp.bin_attrs"
    with (
        changed(target, place.replace("SECTIONS", list_or_number), number),
        contextlib.suppress(rsp.StubError, rsp.SymbolError),
    ):
        read_all(target)


def test_loops(structures: Structures) -> None:
    """Lists that never come back to where they began."""
    target = structures("old_modules.c", *MODULES[0])
    for place, to in (("first_module", "first_module"), ("third_module", "second_module")):
        with (
            changed(target, f"{place}.list.next", int(target.value(f"&{to}.list"))),
            pytest.raises(rsp.SymbolError, match="the list of modules makes no sense"),
        ):
            list_modules(target.inferior)
    for form in (1, 2, 3):
        target = structures("old_tasks.c", f"-DOLD={form}", "-m64")
        with (
            changed(target, "ended.tasks.next", int(target.value("&leader.tasks"))),
            pytest.raises(rsp.SymbolError, match="the list of tasks makes no sense"),
        ):
            list_tasks(target.inferior)
        node = "thread_group" if form == 1 else "thread_node"
        with changed(target, f"third.{node}.next", int(target.value(f"&second.{node}"))):
            assert [task.pid for task in list_tasks(target.inferior)] == [2, 10, 11, 12, 13]


@pytest.mark.parametrize("form", [1, 2, 3])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    place=st.sampled_from(
        [
            "init_task.tasks.next",
            "leader.tasks.next",
            "leader.NODE.next",
            "leader.NODE.prev",
            "second.NODE.next",
            "leader.signal",
            "leader.stack",
            "leader.real_parent",
            "leader.exit_state",
            "of_leader.thread_head.next",
            "leader.STATE",
        ]
    ),
    number=NUMBERS,
)
def test_hostile_tasks(structures: Structures, form: int, place: str, number: int) -> None:
    target = structures("old_tasks.c", f"-DOLD={form}", "-m64")
    place = place.replace("NODE", "thread_group" if form == 1 else "thread_node")
    place = place.replace("STATE", "__state" if form == 3 else "state")
    with changed(target, place, number), contextlib.suppress(rsp.StubError, rsp.SymbolError):
        for task in list_tasks(target.inferior):
            assert len(task.state) == 1
            assert isinstance(task.comm, str)
            with contextlib.suppress(rsp.StubError):
                assert task.cpu >= 0
            assert task.parent is None or task.parent.address
