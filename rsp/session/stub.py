"""Which stub answers, and what it can take.

Contents: the fingerprint: the few facts that the handshake gathers, and the table that makes of
them one frozen Stub with its Limits. This is the only place that knows stubs by name; all other
code asks the limits. Each row says what it rests on.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from rsp.arch.modes import CpuMode
from rsp.wire.limits import InterruptWay, Limits
from rsp.wire.replies import Dialect

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rsp.wire.features import Features


_KGDB_CPU_0: Final = 0xFFFFFFFE  # -2, and -3 the next one (kernel/debug/gdbstub.c, shadow_pid)


_WITHOUT_SEGMENTS: Final = "i8086"  # gdb has none there, and 86Box gives CS and IP added up


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the handshake has learned.

    Attributes:
        features: the answer to qSupported, empty where that was.
        architecture: that of the target description, None without one.
        step_bits: whether ``qqemu.sstepbits`` was answered.
        physical_memory: whether ``qqemu.PhyMemMode`` was answered.
        runs_program: whether a QEMU runs a program and no machine: it has an auxiliary vector, or
            answers ``qOffsets``.
        bare_thread: whether ``qC`` is answered with a number and no ``QC``.
        threads: the first thread ids as the stub spells them.
        registers_size: bytes of the first ``g``, None where it was not asked for.
    """

    features: Features
    architecture: str | None = None
    step_bits: bool = False
    physical_memory: bool = False
    runs_program: bool = False
    bare_thread: bool = False
    threads: tuple[str, ...] = ()
    registers_size: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stub:
    """A stub, as far as it is known.

    Attributes:
        name: ``qemu``, ``qemu-user``, ``gdbserver``, ``valgrind``, ``kgdb``, ``bochs``,
            ``virtualbox``, ``lldb-server``, ``rust-gdbstub`` or ``unknown``; for people, never for
            decisions.
        features: what qSupported offered, by name: the value, or True.
        limits: what it can take.
        layout_follows_mode: whether ``g`` has the 64-bit layout in 64-bit mode and the 32-bit one
            elsewhere, so that its length tells the mode (QEMU up to 2.8).
        info_registers: whether ``qRcmd`` of ``info registers`` shows the descriptors.
        physical_memory: whether ``Qqemu.PhyMemMode`` is there.
        delivers_signals: whether it runs a process, which gets its signals when it is resumed.
        stops_for_client: whether its target runs without a client, and is stopped by one's coming;
            None where that is not known.
        runs_on_close: whether a running target runs on when the stream is closed.
        echoes_watchpoints: whether a watchpoint that a step meets is reported again by the next
            resume, before anything has run.
        faults_by_page: whether a read within a page that fails would fail for any byte of it.
        step_flags: whether ``Qqemu.sstep`` keeps interrupts and timers out of single steps.
        tells_accelerator: whether ``qRcmd`` of ``info kvm`` tells who runs the code: where that is
            QEMU itself, software breakpoints are not in the target's memory.
        pc_after_breakpoint: how far behind a software breakpoint the pc is.
        pc_behind_in_g: how far behind any breakpoint ``g`` has the pc, which itself is right.
        tasks: whether threads are tasks of a kernel. Of one that no CPU executes, ``g`` has a pc of
            0 and nothing true but stack and frame pointer.
        only_stopped_thread: whether registers are written, and instructions executed, of no thread
            but the one that stopped.
        linear_pc: whether the pc is a linear address where the CPU's is an offset in its segment
            (stubs that say ``i8086``).
        in_kernel: whether it is a part of the kernel that it debugs, and writes breakpoints into it
            as the kernel can at the moment.
        bare_watchpoints: whether watchpoints are the CPU's debug registers and no more: a range is
            aligned to its size, and what they catch is a SIGTRAP like any other.
        modes: by the architecture of ``g``, the mode in which code at privilege level 0 runs.
    """

    name: str
    features: dict[str, str | bool | None] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    layout_follows_mode: bool = False
    info_registers: bool = False
    physical_memory: bool = False
    delivers_signals: bool = False
    stops_for_client: bool | None = None
    runs_on_close: bool = False
    echoes_watchpoints: bool = False
    faults_by_page: bool = False
    step_flags: bool = False
    tells_accelerator: bool = False
    pc_after_breakpoint: int = 0
    pc_behind_in_g: int = 0
    tasks: bool = False
    only_stopped_thread: bool = False
    linear_pc: bool = False
    in_kernel: bool = False
    bare_watchpoints: bool = False
    modes: Mapping[str, CpuMode] = field(default_factory=dict)

    def cpu_of(self, thread: int) -> int | None:
        """Return the number of the CPU that a thread stands for, None for a task or no CPU."""
        if self.tasks:
            return _KGDB_CPU_0 - thread if thread >> 31 else None
        return thread - 1 if self.info_registers else None

    @property
    def packet_size(self) -> int:
        """The most characters of one packet to the stub."""
        return self.limits.packet_size


def identify(facts: Facts, limits: Limits) -> Stub:
    """Make the Stub from what the handshake has learned.

    Args:
        facts: the answers.
        limits: those of the line (whether it is reliable, shared with a console, and its timeout),
            which the stub's own are added to.
    """
    features = facts.features
    common = replace(
        limits,
        packet_size=sane_packet_size(features) or limits.packet_size,
        reverse_step=features.supports("ReverseStep"),
        reverse_continue=features.supports("ReverseContinue"),
    )
    for matches, make in _TABLE:
        if matches(facts):
            stub = make(facts, common)
            linear = facts.architecture == _WITHOUT_SEGMENTS
            return replace(stub, features=dict(features), linear_pc=linear)
    # Where P is unknown too, G is the only way to write; whoever is harmed by it is named above.
    return Stub(
        name="unknown",
        features=dict(features),
        limits=replace(common, write_all_registers=True, registers_size=facts.registers_size or 0),
        linear_pc=facts.architecture == _WITHOUT_SEGMENTS,
    )


def sane_packet_size(features: Features) -> int | None:
    """Return the PacketSize that a stub offers, within reason; None where it offers none."""
    # gdb (remote.c) ignores what is below 20; QEMU's newest says 0x20020.
    size = features.packet_size
    if is_lldb(features):
        # It writes the number in decimal, and up to 13 did in hex, which is not less.
        text = str(features.get("PacketSize"))
        size = int(text) if text.isdecimal() and size is not None else size
    return None if size is None or size < 20 else min(size, 1 << 18)


def _is_qemu(facts: Facts) -> bool:
    return facts.step_bits


def _qemu(facts: Facts, limits: Limits) -> Stub:
    # gdbstub.c of QEMU: replies are queued, and a new packet abandons the wait for a `+`, so
    # requests may follow one another at once (measured: 64 under way, QEMU 7.2). `G` writes
    # halves of registers outside 64-bit mode. The user-mode emulator throws away what comes in one
    # piece with a request, its `+` too, then repeats the reply for every other byte (measured,
    # 7.2); and while its program runs it does not look at the socket at all.
    if facts.runs_program and not facts.physical_memory:
        return Stub(
            name="qemu-user",
            limits=replace(limits, interrupt=InterruptWay.NONE),
            delivers_signals=True,
            stops_for_client=False,
            runs_on_close=True,
        )
    # Before 2.9 there was no description for x86. So `p` and `P` are not answered, and `G` writes
    # what `g` reads in every mode (target-i386/gdbstub.c: both lengths follow the CPU's mode).
    old = not facts.features.supports("qXfer:features:read")
    return Stub(
        name="qemu",
        limits=replace(
            limits,
            window=64 if limits.reliable else 1,
            any_byte_stops=True,
            # The ack along with the request saves a system call for each (half of a round trip).
            optimistic_ack=limits.reliable,
            write_all_registers=old,
        ),
        layout_follows_mode=old,
        info_registers=True,
        physical_memory=facts.physical_memory,
        stops_for_client=True,
        runs_on_close=True,
        echoes_watchpoints=True,
        faults_by_page=True,
        step_flags=True,
        tells_accelerator=True,
    )


KGDB_THREADS: Final = "fffff"
"""What the ids of kgdb's CPUs begin with."""


def _is_kgdb(facts: Facts) -> bool:
    # kernel/debug/gdbstub.c: the CPUs are threads -2, -3, … and qSupported is unknown to it.
    return any(len(text) == 8 and text.startswith(KGDB_THREADS) for text in facts.threads)


def _kgdb(_facts: Facts, limits: Limits) -> Stub:
    # Error numbers are printed in decimal, the input buffer has 1024 bytes, and what it answers
    # to `m` is written into it without a check of the length. One request at a time: what comes
    # before the `+` of a reply is refused. Whatever carries the bytes here, a UART is at the other
    # end, and often the console's.
    return Stub(
        name="kgdb",
        limits=replace(
            limits,
            packet_size=1000,
            most_read=504,
            window=1,
            reliable=False,
            shared_line=True,
            retries=max(limits.retries, 25),
            retransmit_after=min(limits.retransmit_after, 0.25),
            write_all_registers=False,
            dialect=Dialect(error_radix=10),
            interrupt=InterruptWay.BREAK_G,
        ),
        stops_for_client=False,  # it takes a BREAK
        runs_on_close=True,
        pc_after_breakpoint=1,
        tasks=True,
        only_stopped_thread=True,
        in_kernel=True,
        bare_watchpoints=True,
        faults_by_page=True,
        # It has no real mode, and what it executes at level 0 is itself.
        modes={"x86-64": CpuMode.LONG64, "i386": CpuMode.PROTECTED32},
    )


def _is_gdbserver(facts: Facts) -> bool:
    return facts.features.supports("QProgramSignals")


def _gdbserver(_facts: Facts, limits: Limits) -> Stub:
    # No `p` and no `P` for x86, and its program stands still when a client has hung up (measured,
    # 13.1). Without acks it takes requests in a row; with acks only if each reply's `+` has come
    # before the next request.
    return Stub(
        name="gdbserver",
        limits=replace(
            limits,
            window=64 if limits.reliable else 1,
            optimistic_ack=limits.reliable,
            write_all_registers=True,
        ),
        delivers_signals=True,
        stops_for_client=False,
    )


def _is_valgrind(facts: Facts) -> bool:
    return facts.features.supports("QPassSignals") and facts.features.supports("QCatchSyscalls")


def _valgrind(_facts: Facts, limits: Limits) -> Stub:
    return Stub(
        name="valgrind",
        limits=replace(limits, write_all_registers=True),
        delivers_signals=True,
    )


def _is_virtualbox(facts: Facts) -> bool:
    return facts.registers_size in (176, 276)


def _virtualbox(_facts: Facts, limits: Limits) -> Stub:
    return Stub(name="virtualbox", limits=replace(limits, escape=ord("{")))


def _is_bochs(facts: Facts) -> bool:
    # No qSupported, and core layouts of 16 words, or of 17 quadwords and 7 words; GRUB's has that,
    # too, and no answer to qC.
    return not facts.features and facts.registers_size in (64, 164) and facts.bare_thread


def _bochs(_facts: Facts, limits: Limits) -> Stub:
    # gdbstub.cc of 3.0: a packet is read into 255 bytes on the stack, with its NUL, and memory for
    # the answer to `m` into as many. After a breakpoint `g` adds one to rip, as long as it is the
    # last stop, whatever `P` has written; what goes on is rip itself.
    return Stub(
        name="bochs",
        limits=replace(
            limits,
            packet_size=min(limits.packet_size, 254),
            most_read=255,
            optimistic_ack=limits.reliable,
        ),
        stops_for_client=False,  # it waits for one before it begins
        pc_behind_in_g=1,
    )


def is_lldb(features: Features) -> bool:
    """Whether these are the features of lldb-server, whose signals are the system's own."""
    return features.supports("native-signals")


def _is_lldb(facts: Facts) -> bool:
    return is_lldb(facts.features)


def _lldb(_facts: Facts, limits: Limits) -> Stub:
    # It has no `G`; `P` takes the numbers of its description.
    return Stub(
        name="lldb-server",
        limits=replace(limits, write_all_registers=False),
        delivers_signals=True,
        stops_for_client=False,
    )


def _is_rust(facts: Facts) -> bool:
    return facts.features.supports("QStartNoAckMode") and facts.features.supports("vContSupported")


def _rust(_facts: Facts, limits: Limits) -> Stub:
    # It knows no `-`: on its lines nothing can be asked for again but by a new request.
    return Stub(name="rust-gdbstub", limits=replace(limits, write_all_registers=True))


_TABLE: Final[tuple[tuple[Callable[[Facts], bool], Callable[[Facts, Limits], Stub]], ...]] = (
    (_is_qemu, _qemu),
    (_is_lldb, _lldb),
    (_is_kgdb, _kgdb),
    (_is_gdbserver, _gdbserver),
    (_is_valgrind, _valgrind),
    (_is_virtualbox, _virtualbox),
    (_is_bochs, _bochs),
    (_is_rust, _rust),
)
