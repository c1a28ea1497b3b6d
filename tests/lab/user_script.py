"""What a user's tool may look like: each public noun of `rsp`, as type checkers see it.

Contents: nothing that runs. tests/test_type_checkers.py copies it to another directory, and has
mypy and pyright check it there, in their strict modes, against the installed package.
"""

from __future__ import annotations

from typing import assert_type

import rsp
from rsp import linux


def session(address: str, *, on_exit: rsp.OnExit = rsp.OnExit.DETACH) -> tuple[rsp.Stop, ...]:
    table: rsp.SymbolTable = rsp.SymbolTable("vmlinux")
    with rsp.connect(address, symbols=table, slide="auto", on_exit=on_exit) as target:
        assert_type(target, rsp.Target)
        stub, session, arch = target.stub, target.session, target.arch
        assert_type((stub, session, arch), tuple[rsp.Stub, rsp.Session, rsp.Architecture])
        limits: rsp.Limits = stub.limits
        way: rsp.InterruptWay = limits.interrupt
        print(stub.name, arch.name, way is rsp.InterruptWay.CTRL_C)
        registers: rsp.Registers = target.registers
        layout: rsp.RegisterLayout = registers.layout
        whole: rsp.Register = layout.registers[0]
        parts: list[rsp.SubRegister] = list(layout.sub_registers.values())
        print(hex(registers["rip"] or 0), whole.bits, parts, rsp.EFlags.ZF in registers.flags)
        if target.mode is not rsp.CpuMode.LONG64:
            target.run_until_mode(rsp.CpuMode.LONG64, max_steps=1000)
        with target.breakpoint("start_kernel", kind=rsp.BreakpointKind.HARDWARE) as point:
            assert_type(point, rsp.Breakpoint)
            first = assert_type(target.resume(timeout=30), rsp.Stop)
            print(first.reason is rsp.StopReason.BREAKPOINT, first.breakpoint is point)
        watch: rsp.Watchpoint = target.watchpoint(0x1000, 4, rsp.Watch.ACCESS)
        points: rsp.Breakpoints = target.breakpoints
        every: list[rsp.Point] = [*points, watch]
        assert_type(target.resume(wait=True), rsp.Stop)
        target.resume(wait=False)
        stops = (first, target.wait(1.0), target.interrupt(), target.step(), target.finish())
        position: rsp.Position | None = stops[-1].position
        line: rsp.SourceLine | None = position.line if position is not None else None
        signal: rsp.SigInfo | None = first.siginfo
        print(len(every), line, signal, stops[-1].return_value)
    return stops


def stack(thread: rsp.Thread) -> list[rsp.Variable]:
    trace: rsp.Backtrace = thread.backtrace()
    ids: list[rsp.ThreadId] = [thread.thread_id]
    frames: list[rsp.Frame] = [each for each in trace if each.kind is rsp.FrameKind.FUNCTION]
    print(ids, [frame.function for frame in frames])
    return [variable for frame in frames for variable in frame.arguments]


def memory(target: rsp.Target) -> dict[int, rsp.Instruction]:
    value: rsp.Value = target.value("init_task")["comm"]
    ctype: rsp.Type = value.type_
    members: tuple[rsp.Member, ...] = ctype.members
    if isinstance(ctype, rsp.types.Pointer):
        print(ctype.target, members)
    stream: rsp.MemoryStream = target.memory
    pages: rsp.Pages = target.pages
    pages.read(0, 0)
    page: rsp.Translation = target.virtual_to_physical(0x1000)
    entries: tuple[rsp.PageEntry, ...] = page.entries
    state: rsp.CpuState | None = target.cpu_state
    if state is not None:
        segment, table = state.segments["cs"], state.gdt
        assert_type((segment, table), tuple[rsp.Segment, rsp.DescriptorTable])
    text: rsp.ConsoleText = target.console
    print(stream.read(4), entries, text.read())
    return {each.address: each for each in target.disassemble(0x1000, 4)}


def symbols(table: rsp.SymbolTable) -> list[rsp.Location]:
    found: rsp.Symbol = table["start_kernel"]
    kind, binding = found.kind, found.binding
    print(kind is rsp.SymbolKind.FUNCTION, binding is rsp.Binding.GLOBAL)
    variable: rsp.GlobalVariable = table.variable("jiffies")
    chain: tuple[rsp.InlineFrame, ...] = table.inline_chain(variable.address)
    listed: tuple[rsp.ListedLine, ...] = table.source("start_kernel")
    print(chain, listed)
    return list(table.locations("list_add"))


def machine(target: rsp.Target, kernel: linux.Kernel) -> rsp.Resumption:
    tasks: tuple[linux.Task, ...] = kernel.tasks()
    modules: tuple[linux.Module, ...] = kernel.modules()
    log: tuple[linux.LogRecord, ...] = kernel.log()
    print(kernel.slide, tasks, modules, log, target.running)
    return rsp.Resumption(registers={"rip": 0, "rsp": 0})


def core(path: str, table: rsp.SymbolTable) -> rsp.Debuggee:
    with rsp.open_core(path, symbols=table) as found:
        assert_type(found, rsp.Core)
        print(found.kernel.log(), found.vmcoreinfo, found.stop, found.threads)
        return found


def events(connection: rsp.Connection, now: float) -> bytes:
    connection.send(rsp.commands.ReadMemory(address=0x1000, length=64), now)
    event = connection.next_event()
    if event is rsp.NEED_DATA or connection.state is rsp.State.CLOSED:
        return b""
    match event:
        case rsp.Reply(value=rsp.replies.MemoryData(data=data)) | rsp.Console(data=data):
            return data
        case rsp.Unsolicited(value=rsp.stops.Stopped(signal=signal)):
            return bytes([signal])
        case rsp.Notification() | rsp.Output() | rsp.Closed() | _:
            return b""


def errors(transport: rsp.Transport) -> int | None:
    try:
        rsp.connect(transport).detach()
    except rsp.MemoryFault as fault:
        return fault.address
    except (rsp.RegisterWriteError, rsp.NoHardwareBreakpoint, rsp.UnsupportedCommand) as error:
        return assert_type(error.code, int | None)
    except (rsp.ConnectionLost, rsp.TransportError, rsp.TargetAddressError) as error:
        print(error.address)
    except rsp.RspTimeout as error:
        print(error.timeout)
    except rsp.ArgumentError as error:
        print(error)
    except (rsp.LocalProtocolError, rsp.RemoteProtocolError, rsp.ProtocolError) as error:
        print(error)
    except (rsp.ExpressionError, rsp.ValueUnavailable) as error:
        print(error)
    except (rsp.SymbolNotFound, rsp.BadImage, rsp.SymbolError, rsp.RegisterUnavailable) as error:
        print(error)
    except (rsp.ModeNotReached, rsp.ReplayMismatch, rsp.StubError, rsp.RspError) as error:
        print(error)
    return None
