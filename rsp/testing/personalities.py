"""Whom a stub in a test plays: the real stubs, as data.

Contents: Personality, what differs between stubs that matters to a client, and one value for each
stub that is played. What a personality does is in ``stub``. The facts are from the sources named at
each; those of QEMU 7.2, gdbserver 13.1 and kgdb were measured as well.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING

from rsp.arch.layout import Kind
from rsp.arch.layouts import LAYOUTS
from rsp.wire.codec import ESCAPE
from rsp.wire.features import Features
from rsp.wire.replies import Dialect

if TYPE_CHECKING:
    from rsp.arch.layout import RegisterLayout

_LAYOUTS = {layout.name: layout for layout in LAYOUTS}


class UntilAck(Enum):
    """What a stub does with bytes that come where the ``+`` of its reply should."""

    READS_ON = "it does not care"
    ABANDONS = "the next packet ends the wait"
    REFUSES = "the next packet is answered with - and dropped"
    RESENDS = "every byte but + makes it send the reply again"


class Unreadable(Enum):
    """What a stub answers to ``m`` where not all of the range can be read."""

    ALL_OR_NOTHING = "an error"
    PREFIX = "what is before the hole"
    GARBAGE = "bytes that are not there"


@dataclass(frozen=True, slots=True, kw_only=True)
class Personality:
    """A stub, as far as a client notices.

    Attributes:
        name: what the library should call it.
        layout: of ``g`` in 64-bit mode.
        layout_32: of ``g`` outside it, where that is another.
        features: the answer to qSupported; None where that is unknown to it.
        described: whether it gives a target description, if ``features`` offers one.
        packet_size: the most characters that a packet may have.
        most_read: the most bytes that ``m`` may ask for without harm.
        commands: single letters, and ``vCont``, that it knows beyond ``? g m M c s H T``.
        write_all_in_64_only: whether ``G`` does harm outside 64-bit mode.
        actions: of ``vCont``.
        queries: by name, those that it knows beyond the threads.
        threads_in_list: how many thread ids it sends at once.
        thread_in_stop: whether a stop is a ``T`` packet with the thread in it.
        only_current_thread: whether another thread's resume, ``G`` and ``P`` are refused.
        until_ack: what it does without a ``+``.
        understands_nak: whether ``-`` makes it send its reply again.
        stopped_by_any_byte: whether every byte stops the running target.
        interrupted_by: the signal that 0x03 brings; None where that is console input.
        greeting: what it sends to whoever connects while its target runs.
        dialect: of its replies.
        unreadable: what ``m`` answers at the edge of memory.
        upper_case: whether its hex digits are.
        run_length: whether it sends run-length encoding.
        escape: its escape byte.
        pc_after_breakpoint: how far the pc is behind a software breakpoint.
        pc_behind_in_g: how far ``g``, and nothing else, has the pc behind the place where it is as
            long as the last stop was a breakpoint.
        names_current_thread: whether ``qC`` is answered with ``QC``, and not with a bare number.
        says_swbreak: whether it reports which kind of breakpoint was hit.
        slots: how many hardware breakpoints it has.
        first_thread_then_xml: whether it dies of a target.xml that is asked for before ``Hg``.
        drops_points_on_query: whether ``?`` removes all breakpoints.
        says_watch: whether it reports which watchpoint was hit.
        unwritable: registers that ``P`` leaves as they are, answering OK.
    """

    name: str
    layout: str = "qemu-x86-64"
    layout_32: str | None = None
    features: Features | None = None
    described: bool = False
    packet_size: int = 400
    most_read: int | None = None
    commands: frozenset[str] = frozenset("GpPDzZkX")
    write_all_in_64_only: bool = False
    actions: tuple[str, ...] = ()
    queries: frozenset[str] = frozenset()
    threads_in_list: int = 1
    thread_in_stop: bool = True
    only_current_thread: bool = False
    until_ack: UntilAck = UntilAck.READS_ON
    understands_nak: bool = True
    stopped_by_any_byte: bool = False
    interrupted_by: int | None = 2
    greeting: bool = False
    dialect: Dialect = field(default_factory=Dialect)
    unreadable: Unreadable = Unreadable.ALL_OR_NOTHING
    upper_case: bool = False
    run_length: bool = False
    escape: int = ESCAPE
    pc_after_breakpoint: int = 0
    pc_behind_in_g: int = 0
    names_current_thread: bool = True
    says_swbreak: bool = False
    slots: int = 4
    first_thread_then_xml: bool = False
    drops_points_on_query: bool = False
    says_watch: bool = True
    unwritable: frozenset[str] = frozenset()

    def register_layout(self, *, long_mode: bool) -> RegisterLayout:
        """Return how ``g`` is laid out in a mode."""
        name = self.layout if long_mode or self.layout_32 is None else self.layout_32
        return _LAYOUTS[name]


_QEMU_QUERIES = frozenset({"qRcmd", "qqemu.sstepbits", "qqemu.sstep"})

QEMU = Personality(
    name="qemu",
    features=Features(
        {
            "PacketSize": "1000",
            "qXfer:features:read": True,
            "vContSupported": True,
            "multiprocess": True,
        }
    ),
    described=True,
    packet_size=0x1000,
    write_all_in_64_only=True,
    actions=("c", "C", "s", "S"),
    queries=_QEMU_QUERIES | {"qqemu.PhyMemMode", "Qqemu.PhyMemMode"},
    until_ack=UntilAck.ABANDONS,
    stopped_by_any_byte=True,
    greeting=True,
    slots=1000,
    drops_points_on_query=True,
)
"""qemu-system-x86_64 7.2 under TCG: gdbstub.c."""

QEMU_OLD = replace(
    QEMU,
    layout="qemu-2-x86-64",
    layout_32="qemu-2-x86-64-in-32-bit",
    features=Features({"PacketSize": "1000"}),
    described=False,
    commands=frozenset("GDzZk"),
    # What it reads in a mode it also writes in that mode, byte for byte.
    write_all_in_64_only=False,
    queries=_QEMU_QUERIES,
)
"""qemu-system-x86_64 up to 2.8: target-i386/gdbstub.c takes the CPU's mode from hflags, in both
directions; gdbstub.c knows ``p`` and ``P`` only once a description has been read, and there is
none for x86."""

KGDB = Personality(
    name="kgdb",
    layout="kgdb-x86-64",
    packet_size=1000,
    most_read=504,
    commands=frozenset("GpPDzZkXR"),
    queries=frozenset({"qRcmd"}),
    threads_in_list=17,
    only_current_thread=True,
    until_ack=UntilAck.REFUSES,
    interrupted_by=None,
    dialect=Dialect(error_radix=10, thread_list_end=b""),
    pc_after_breakpoint=1,
    drops_points_on_query=True,
    says_watch=False,
    unwritable=frozenset({"rsp", "esp"}),
)
"""Linux 6.1 on x86-64: kernel/debug/gdbstub.c."""

KGDB_I386 = replace(KGDB, layout="kgdb-i386")
"""The same on i386."""

BOCHS = Personality(
    name="bochs",
    layout="bochs-x86-64",
    packet_size=254,
    most_read=255,
    commands=frozenset("PDzZk"),
    thread_in_stop=False,
    until_ack=UntilAck.RESENDS,
    unreadable=Unreadable.GARBAGE,
    pc_behind_in_g=1,
    names_current_thread=False,
)
"""Bochs 3.0: gdbstub.cc."""

VIRTUALBOX = Personality(
    name="virtualbox",
    layout="virtualbox-x86-64",
    commands=frozenset("pPDzZk"),
    upper_case=True,
    escape=ord("{"),
)
"""VirtualBox: VMM/VMMR3 gdb stub."""

GDBSERVER = Personality(
    name="gdbserver",
    layout="gdbserver-x86-64",
    features=Features(
        {
            "PacketSize": "47ff",
            "QPassSignals": True,
            "QProgramSignals": True,
            "qXfer:features:read": True,
            "swbreak": True,
            "hwbreak": True,
            "vContSupported": True,
            "multiprocess": True,
            "QStartNoAckMode": True,
        }
    ),
    described=True,
    packet_size=0x47FF,
    commands=frozenset("GDzZkX"),
    actions=("c", "C", "s", "S", "t"),
    threads_in_list=8,
    until_ack=UntilAck.RESENDS,
    unreadable=Unreadable.PREFIX,
    run_length=True,
    says_swbreak=True,
    first_thread_then_xml=True,
)
"""gdbserver 13.1 of GNU gdb."""

GDBSERVER_ACKS = replace(
    GDBSERVER,
    features=Features(
        {name: value for name, value in (GDBSERVER.features or {}).items() if "Ack" not in name}
    ),
)
"""The same, without the offer to do without acks."""

RUST_GDBSTUB = Personality(
    name="rust-gdbstub",
    layout="qemu-2-x86-64",
    features=Features({"PacketSize": "1000", "vContSupported": True, "QStartNoAckMode": True}),
    packet_size=0x1000,
    actions=("c", "C", "s", "S"),
    understands_nak=False,
    unreadable=Unreadable.PREFIX,
)
"""gdbstub, the Rust crate."""

PLAIN = Personality(
    name="unknown", layout="valgrind-x86-64", commands=frozenset("GpPDzZk"), slots=4
)
"""No stub in particular: what the manual calls the minimum, with breakpoints."""


def describe(layout: RegisterLayout) -> bytes:
    """Write the target description (target.xml) of a layout, in one file."""
    types = {Kind.CODE_POINTER: "code_ptr", Kind.DATA_POINTER: "data_ptr", Kind.X87: "i387_ext"}
    lines = ['<?xml version="1.0"?>', '<!DOCTYPE target SYSTEM "gdb-target.dtd">', "<target>"]
    lines.append(f"<architecture>{_ARCHITECTURES[layout.arch]}</architecture>")
    lines.append('<feature name="org.gnu.gdb.i386.core">')
    for register in layout.registers:
        kind = types.get(register.kind, f"uint{register.bits}" if register.bits < 256 else "int")
        lines.append(
            f'<reg name="{register.name}" bitsize="{register.bits}" type="{kind}"'
            f' regnum="{register.number}"/>'
        )
    return "\n".join([*lines, "</feature>", "</target>"]).encode()


_ARCHITECTURES = {"i386": "i386", "x86-64": "i386:x86-64"}
