"""gdb-rsp: a client library for the GDB Remote Serial Protocol on i386 and x86-64.

Contents: ``connect``, where transport, stub and symbols meet, and the public names. Importing this
package loads none of what they stand for: each is loaded when it is first used, so that a tool pays
for what it needs and nothing third-party is loaded before.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Literal

from rsp.errors import (
    ArgumentError,
    BadImage,
    ConnectionLost,
    ExpressionError,
    LocalProtocolError,
    MemoryFault,
    ModeNotReached,
    NoHardwareBreakpoint,
    ProtocolError,
    RegisterUnavailable,
    RegisterWriteError,
    RemoteProtocolError,
    ReplayMismatch,
    RspError,
    RspTimeout,
    StubError,
    SymbolError,
    SymbolNotFound,
    TargetAddressError,
    TransportError,
    UnsupportedCommand,
    ValueUnavailable,
)

if TYPE_CHECKING:
    from os import PathLike

    from rsp import linux
    from rsp.arch.descriptors import PageEntry
    from rsp.arch.flags import EFlags
    from rsp.arch.layout import Register, RegisterLayout, SubRegister
    from rsp.arch.modes import CpuMode, CpuState, DescriptorTable, Segment
    from rsp.arch.paging import Translation
    from rsp.arch.registers import Registers
    from rsp.arch.siginfo import SigInfo
    from rsp.frames.backtrace import Backtrace
    from rsp.frames.frame import Frame, FrameKind, Variable
    from rsp.inferior.disassembly import Instruction
    from rsp.inferior.inferior import Inferior as _Inferior
    from rsp.inferior.memory_stream import MemoryStream
    from rsp.inferior.pages import Pages
    from rsp.remote.core import Core
    from rsp.remote.debuggee import Architecture, Debuggee
    from rsp.remote.target import OnExit, Target
    from rsp.run.breakpoints import Breakpoints
    from rsp.run.points import Breakpoint, BreakpointKind, Point, Watch, Watchpoint
    from rsp.run.stop import Stop, StopReason, Thread
    from rsp.session.console import ConsoleText
    from rsp.session.session import Session
    from rsp.session.stub import Stub
    from rsp.symbols.at_pc.source_position import Position
    from rsp.symbols.table import (
        Binding,
        GlobalVariable,
        InlineFrame,
        ListedLine,
        Location,
        SourceLine,
        Symbol,
        SymbolKind,
        SymbolTable,
    )
    from rsp.symbols.types import types
    from rsp.symbols.types.types import Member, Type
    from rsp.transports.base import Transport
    from rsp.unwind.entry_code import EntryCode as _EntryCode
    from rsp.unwind.resumption import Resumption
    from rsp.values.value import Value
    from rsp.wire import commands, replies, stops
    from rsp.wire.connection import Connection
    from rsp.wire.events import (
        NEED_DATA,
        Closed,
        Console,
        Notification,
        Output,
        Reply,
        Unsolicited,
    )
    from rsp.wire.limits import InterruptWay, Limits
    from rsp.wire.states import State
    from rsp.wire.threads import ThreadId

__version__ = "0.1.0"

# Where each public name is, for what loads them; for type checkers that is said above.
_HOMES = {
    "rsp.arch.descriptors": ("PageEntry",),
    "rsp.arch.flags": ("EFlags",),
    "rsp.arch.layout": ("Register", "RegisterLayout", "SubRegister"),
    "rsp.arch.modes": ("CpuMode", "CpuState", "DescriptorTable", "Segment"),
    "rsp.arch.paging": ("Translation",),
    "rsp.arch.registers": ("Registers",),
    "rsp.arch.siginfo": ("SigInfo",),
    "rsp.symbols.types": ("types",),
    "rsp.symbols.table": (
        "Binding",
        "GlobalVariable",
        "InlineFrame",
        "ListedLine",
        "Location",
        "SourceLine",
        "Symbol",
        "SymbolKind",
        "SymbolTable",
    ),
    "rsp.symbols.types.types": ("Member", "Type"),
    "rsp.frames.backtrace": ("Backtrace",),
    "rsp.run.breakpoints": ("Breakpoints",),
    "rsp.session.console": ("ConsoleText",),
    "rsp.inferior.disassembly": ("Instruction",),
    "rsp.frames.frame": ("Frame", "FrameKind", "Variable"),
    "rsp.inferior.memory_stream": ("MemoryStream",),
    "rsp.inferior.pages": ("Pages",),
    "rsp.run.points": ("Breakpoint", "BreakpointKind", "Point", "Watch", "Watchpoint"),
    "rsp.symbols.at_pc.source_position": ("Position",),
    "rsp.unwind.resumption": ("Resumption",),
    "rsp.session.session": ("Session",),
    "rsp.run.stop": ("Stop", "StopReason", "Thread"),
    "rsp.session.stub": ("Stub",),
    "rsp.remote.core": ("Core",),
    "rsp.remote.debuggee": ("Architecture", "Debuggee"),
    "rsp.remote.target": ("OnExit", "Target"),
    "rsp.values.value": ("Value",),
    "rsp.transports.base": ("Transport",),
    "rsp.wire": ("commands", "replies", "stops"),
    "rsp.wire.connection": ("Connection",),
    "rsp.wire.events": (
        "NEED_DATA",
        "Closed",
        "Console",
        "Notification",
        "Output",
        "Reply",
        "Unsolicited",
    ),
    "rsp.wire.limits": ("InterruptWay", "Limits"),
    "rsp.wire.states": ("State",),
    "rsp.wire.threads": ("ThreadId",),
}
_CTRL_C = "ctrl-c"
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "NEED_DATA",
    "Architecture",
    "ArgumentError",
    "Backtrace",
    "BadImage",
    "Binding",
    "Breakpoint",
    "BreakpointKind",
    "Breakpoints",
    "Closed",
    "Connection",
    "ConnectionLost",
    "Console",
    "ConsoleText",
    "Core",
    "CpuMode",
    "CpuState",
    "Debuggee",
    "DescriptorTable",
    "EFlags",
    "ExpressionError",
    "Frame",
    "FrameKind",
    "GlobalVariable",
    "InlineFrame",
    "Instruction",
    "InterruptWay",
    "Limits",
    "ListedLine",
    "LocalProtocolError",
    "Location",
    "Member",
    "MemoryFault",
    "MemoryStream",
    "ModeNotReached",
    "NoHardwareBreakpoint",
    "Notification",
    "OnExit",
    "Output",
    "PageEntry",
    "Pages",
    "Point",
    "Position",
    "ProtocolError",
    "Register",
    "RegisterLayout",
    "RegisterUnavailable",
    "RegisterWriteError",
    "Registers",
    "RemoteProtocolError",
    "ReplayMismatch",
    "Reply",
    "Resumption",
    "RspError",
    "RspTimeout",
    "Segment",
    "Session",
    "SigInfo",
    "SourceLine",
    "State",
    "Stop",
    "StopReason",
    "Stub",
    "StubError",
    "SubRegister",
    "Symbol",
    "SymbolError",
    "SymbolKind",
    "SymbolNotFound",
    "SymbolTable",
    "Target",
    "TargetAddressError",
    "Thread",
    "ThreadId",
    "Translation",
    "Transport",
    "TransportError",
    "Type",
    "Unsolicited",
    "UnsupportedCommand",
    "Value",
    "ValueUnavailable",
    "Variable",
    "Watch",
    "Watchpoint",
    "commands",
    "connect",
    "linux",
    "open_core",
    "replies",
    "stops",
    "types",
]

# A type checker that saw this would take any name for a public one, misspelt ones too.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name == "linux":
            return import_module("rsp.linux")
        home = _HOME_OF.get(name)
        if home is None:
            raise AttributeError(f"module 'rsp' has no attribute {name!r}")
        module = import_module(home)
        # A name may be a module of that package (``rsp.wire.commands``) and not loaded yet.
        value = getattr(module, name, None)
        if value is None:
            value = import_module(f"{home}.{name}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)


def connect(
    address: str | Transport,
    *,
    symbols: str | PathLike[str] | SymbolTable | None = None,
    modules: str | PathLike[str] | None = None,
    slide: int | Literal["auto"] = "auto",
    timeout: float = 5.0,
    record: str | PathLike[str] | None = None,
    interrupt: bool | str = True,
    on_exit: OnExit | Literal["detach", "leave stopped", "as found"] | None = None,
) -> Target:
    """Connect to a stub.

    >>> import rsp  # doctest: +SKIP
    >>> with rsp.connect(":1234") as target:  # doctest: +SKIP
    ...     print(target.stub.name, target.mode.name, hex(target.registers.pc))
    qemu REAL16 0xfffffff0

    Args:
        address: where the stub is: ``:1234``, ``host:1234``, ``tcp:host:1234``, ``unix:/path``,
            ``/dev/ttyS0,115200``, ``serial:///dev/ttyS0?baud=115200``, ``telnet://host:port``,
            ``rfc2217://host:port``, ``udp:host:port``, ``| command args`` for a shell,
            ``replay:boot.rsplog``; or an open Transport, which then belongs to the target.
        symbols: an ELF image with the symbols of what runs there, or a table made of one.
        modules: of a Linux kernel, a directory with the files of its modules: their symbols are
            loaded, and followed while it runs.
        slide: how far from its link addresses that image was loaded; "auto" is as linked, or as the
            table says; of a Linux kernel, and of a position-independent program whose stub tells
            its entry point, it is found out as soon as symbols are used. A slide that is given is
            held against the build-id in memory then: a wrong one is a SymbolError.
        timeout: seconds that the connection, and then each request, may take.
        record: a file to record the session in, in the form of gdb's remotelog.
        interrupt: whether a kernel that runs behind a serial line is stopped: by BREAK and g
            (sysrq), or by a root shell on its console. Else a stop is waited for, at most for the
            timeout. The address of QEMU's monitor (``unix:/path``, ``host:port``) is another way to
            send the BREAK, where the line carries none; "ctrl-c" is a byte 0x03, of which
            agent-proxy makes a BREAK and g (gdb's ``interrupt-on-connect``). Other stubs stop their
            target by themselves when one connects.
        on_exit: what becomes of the target at the end of the ``with`` block, or of a script
            without one: by default it is detached from, and runs on. A member of `OnExit`, or its
            name.

    What fails here, Ctrl-C included, leaves the target as it was found: running or standing still.

    Raises:
        TargetAddressError: the address has none of these forms.
        ArgumentError: another argument is not of what is taken. Nothing has been opened.
        TransportError: nobody listens there, or the port may not be opened; or the file of
            ``record`` exists already.
        RspTimeout, RemoteProtocolError, ConnectionLost: what listens there does not answer as a
            stub does.
        UnsupportedCommand: a kernel runs there that cannot be stopped; the message says why.
        BadImage: the symbols cannot be read.
    """
    from rsp.ctrl_c import held

    timeout, leaving = _check(address, modules, slide, timeout, record, interrupt, on_exit)
    table = _table(symbols, slide)
    target: Target | None = None
    try:
        # Ctrl-C may come wherever it waits, and nowhere else.
        with held(but_in_waits=True):
            transport = _open(address, timeout, record)
            target = _greet(transport, table, timeout, interrupt, leaving)
            _follow(target, table, modules, slide)
    except BaseException:
        if target is not None:
            target.leave_as_found()
        raise
    return target


def open_core(
    path: str | PathLike[str],
    *,
    symbols: str | PathLike[str] | SymbolTable | None = None,
    modules: str | PathLike[str] | None = None,
    slide: int | Literal["auto"] = "auto",
) -> Core:
    """Open an ELF core file: what a stopped target answers, without a stub.

    >>> import rsp  # doctest: +SKIP
    >>> with rsp.open_core("vmcore", symbols="vmlinux") as core:  # doctest: +SKIP
    ...     print(core.kernel.banner, core.backtrace())

    Args:
        path: the core of a process (the kernel's own, or one of gdb's ``gcore``), of a machine
            (QEMU's ``dump-guest-memory``, ``rsp core``, /proc/vmcore), or /proc/kcore.
        symbols: an ELF image with the symbols of what ran there, or a table made of one.
        modules: of a Linux kernel, a directory with the files of its modules.
        slide: how far from its link addresses that image was loaded; "auto" finds it as
            ``connect`` does, and takes what the core says (VMCOREINFO).

    Raises:
        BadImage: it is no ELF core of x86, or the symbols cannot be read.
        ArgumentError: another argument is not of what is taken.
    """
    from rsp import arguments
    from rsp.remote.core import Core

    _check_slide(slide)
    if modules is not None:
        modules = arguments.directory(modules, "modules")
    table = _table(symbols, slide)
    core = Core(path, table)
    try:
        known = core.inferior.notes.slide
        _follow(core, table, modules, known if slide == "auto" and known is not None else slide)
    except BaseException:
        core.close()
        raise
    return core


def _table(
    symbols: str | PathLike[str] | SymbolTable | None, slide: int | Literal["auto"]
) -> SymbolTable | None:
    """Open the symbols of what runs; a table that is given is copied, for where it lies."""
    if symbols is None:
        return None
    from rsp.symbols.table import SymbolTable

    table = symbols.copy() if isinstance(symbols, SymbolTable) else SymbolTable(symbols)
    if table.relocatable:
        raise BadImage(
            f"{table.path}: a relocatable object or a module, whose symbols have no addresses "
            "before it is loaded: open the kernel (vmlinux), and give the directory of its "
            "modules",
            path=table.path,
        )
    if slide != "auto":
        table.slide = slide
    return table


def _greet(
    transport: Transport,
    table: SymbolTable | None,
    timeout: float,
    interrupt: bool | str,
    on_exit: OnExit,
) -> Target:
    """Make a Target of a stream; where that fails, the target is left as it was found."""
    from rsp.remote.target import Target
    from rsp.session.detach import leave_as_found
    from rsp.session.handshake import shake_hands
    from rsp.session.kgdb_line import SYSRQ_G, Line
    from rsp.session.session import Session
    from rsp.wire.limits import Limits

    # What carries a BREAK has a serial port behind it, and perhaps a console.
    by_ctrl_c = interrupt == _CTRL_C
    reliable = transport.reliable and not transport.can_break and not by_ctrl_c
    # A long reply on a line that loses one byte in a thousand comes whole once in three times.
    limits = Limits(
        timeout=timeout,
        reliable=reliable,
        shared_line=not reliable,
        retries=3 if reliable else 10,
    )
    session = Session(transport, limits)
    send_break = None
    if by_ctrl_c:
        send_break = partial(transport.write, b"\x03", timeout)
    elif isinstance(interrupt, str):
        send_break = partial(_break_by_monitor, interrupt, transport.address)
    line = Line(session, send_break, key=b"" if by_ctrl_c else SYSRQ_G)
    try:
        greeting = shake_hands(session, line, interrupt=bool(interrupt))
        target = Target(session, greeting, symbols=table, on_exit=on_exit)
        target.leave_when_forgotten()
    except BaseException:
        leave_as_found(session, line)
        raise
    return target


def _follow(
    target: Debuggee,
    table: SymbolTable | None,
    modules: str | PathLike[str] | None,
    slide: int | Literal["auto"],
) -> None:
    """Plug in what knows the program whose symbols these are."""
    inferior = target.inferior
    if table is None or "linux_banner" in table:
        inferior.find_entry_code = _entry_code_of_linux
    if table is not None and "linux_banner" in table:
        from rsp.linux.kernel import Kernel

        Kernel(target, modules=modules, slide=None if slide == "auto" else slide)
    elif table is not None and slide != "auto":
        inferior.follow = partial(_check_executable, inferior, slide)
    elif table is not None and _may_lie_anywhere(target, table):
        inferior.follow = partial(_follow_executable, inferior)


def _entry_code_of_linux() -> _EntryCode:
    from rsp.linux import kernel_entry

    return kernel_entry


def _check(
    address: object,
    modules: object,
    slide: object,
    timeout: object,
    record: object,
    interrupt: object,
    on_exit: object,
) -> tuple[float, OnExit]:
    """Refuse what cannot be meant, while nothing has been opened.

    Returns:
        What ``timeout`` and ``on_exit`` mean.
    """
    from rsp import arguments
    from rsp.remote.target import OnExit
    from rsp.transports.address import parse_address
    from rsp.transports.base import Transport

    if not isinstance(address, Transport):
        parse_address(address)
    if isinstance(interrupt, str):
        if interrupt != _CTRL_C:
            parse_address(interrupt)
    elif not isinstance(interrupt, bool):
        what = f'True, False, "{_CTRL_C}" or the monitor\'s address'
        raise arguments.refused("interrupt", interrupt, what)
    if modules is not None:
        arguments.directory(modules, "modules")
    _check_slide(slide)
    if record is not None:
        arguments.path(record, "record")
    leaving = OnExit.DETACH if on_exit is None else arguments.member(OnExit, on_exit, "on_exit")
    return arguments.seconds(timeout, "timeout"), leaving


def _check_slide(slide: object) -> None:
    from rsp import arguments

    if not (isinstance(slide, str) and slide == "auto"):
        arguments.integer(slide, "slide", '"auto" or a distance', lowest=-arguments.END)


def _break_by_monitor(monitor: str, line: str) -> None:
    from rsp.transports.monitor import send_break

    send_break(monitor, line)


def _may_lie_anywhere(target: Debuggee, table: SymbolTable) -> bool:
    binary, _ = next(table.binaries())
    return target.inferior.has_auxv and binary.image.position_independent


def _follow_executable(inferior: _Inferior) -> None:
    from rsp.inferior.executable import follow

    follow(inferior)


def _check_executable(inferior: _Inferior, slide: int) -> None:
    from rsp.inferior.executable import check

    check(inferior, slide)


def _open(
    address: str | Transport, timeout: float, record: str | PathLike[str] | None
) -> Transport:
    from pathlib import Path

    from rsp.recording import Recorder
    from rsp.transports import open_transport
    from rsp.transports.record import RecordingTransport

    # First the file: a stub must not be disturbed for a recording that cannot be made.
    recorder = None if record is None else Recorder(record)
    try:
        transport = (
            open_transport(address, timeout=timeout) if isinstance(address, str) else address
        )
    except BaseException:
        if recorder is not None and record is not None:
            recorder.close()
            Path(record).unlink()
        raise
    return transport if recorder is None else RecordingTransport(transport, recorder)
