"""Replies, as live stubs sent them: QEMU 7.2.22, gdbserver 13.1, valgrind 3.19."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsp.errors import LocalProtocolError, RemoteProtocolError
from rsp.wire import commands as c
from rsp.wire.codec import decode
from rsp.wire.replies import (
    Attached,
    Crc,
    CurrentThread,
    Dialect,
    ErrorReply,
    FileResult,
    MemoryRegion,
    MonitorText,
    Offsets,
    Ok,
    PhysicalMemoryMode,
    RegisterBlock,
    Reply,
    ResumeActions,
    SearchResult,
    SegmentAddresses,
    StepBits,
    StepFlags,
    SymbolRequest,
    ThreadExtraInfo,
    ThreadList,
    Unsupported,
    XferData,
    XferWritten,
)
from rsp.wire.stops import Output
from rsp.wire.threads import ThreadId

DIALECT = Dialect()


# A part of gdbserver's auxv, as on the wire.
AUXV = (
    b'm!\x00*"\x00\x00\x80\xfc\xf7\xff\x7f\x00\x003\x00*"\x000\r\x00*"\x10\x00*"\x00'
    b'\xff\xfb\x8b\x17\x00* \x06\x00*"\x00\x00\x10\x00*"'
)


def answer(command: c.Command, raw: bytes) -> Reply:
    """Return the answer that stood on the wire as ``raw``; it must also be written alike."""
    payload = decode(raw, 1 << 16)
    reply = command.parse_reply(payload, DIALECT)
    assert command.parse_reply(command.encode_reply(reply, DIALECT), DIALECT) == reply
    return reply


CPU0 = ThreadId.parse("p01.01")


@pytest.mark.parametrize(
    ("command", "raw", "reply"),
    [
        # QEMU
        (c.MustReplyEmpty(), b"", Unsupported()),
        (c.QueryCurrentThread(), b"QCp01.01", CurrentThread(thread=CPU0)),
        (c.QueryFirstThreads(), b"mp01.01", ThreadList(threads=(CPU0,))),
        (
            c.QueryThreadExtraInfo(thread=CPU0),
            b"4350552330205b72756e6e696e675d",
            ThreadExtraInfo(text="CPU#0 [running]"),
        ),
        (c.QueryAttached(), b"1", Attached(attached=True)),
        (c.ReadRegister(number=0xFFF), b"E14", ErrorReply(code=0x14)),
        (c.IsThreadAlive(thread=ThreadId.parse("p01.09")), b"E22", ErrorReply(code=0x22)),
        (c.QueryVCont(), b"vCont;c;C;s;S", ResumeActions(actions=("c", "C", "s", "S"))),
        (
            c.QueryStepBits(),
            b"ENABLE=1,NOIRQ=2,NOTIMER=4",
            StepBits(enable=1, no_irq=2, no_timer=4),
        ),
        (c.QueryStepFlags(), b"0x7", StepFlags(flags=7)),
        (c.QueryPhysicalMemoryMode(), b"0", PhysicalMemoryMode(enabled=False)),
        (
            c.Monitor(command="nonsense"),
            b"O756e6b6e6f776e20636f6d6d616e643a20276e6f6e73656e7365270d0a",
            Output(data=b"unknown command: 'nonsense'\r\n"),
        ),
        (c.Monitor(command="nonsense"), b"OK", Ok()),
        # gdbserver
        (c.QueryCrc(address=0x401000, length=16), b"C1fcd12fc", Crc(crc=0x1FCD12FC)),
        (
            c.SearchMemory(address=0x400000, length=0x1000, pattern=b"ELF"),
            b"1,40* 1",
            SearchResult(address=0x400001),
        ),
        (c.SearchMemory(address=0x400000, length=16, pattern=b"zzzz"), b"0", SearchResult()),
        (
            c.OfferSymbol(),
            b"qSymbol:6764625f6167656e745f6764625f74705f686561705f62756*!572",
            SymbolRequest(name="gdb_agent_gdb_tp_heap_buffer"),
        ),
        (
            c.XferRead(object="exec-file", offset=0, length=64),
            b"l/tmp/t",
            XferData(data=b"/tmp/t", last=True),
        ),
        (
            c.XferRead(object="auxv", offset=0, length=64),
            AUXV,
            XferData(
                data=b"".join(
                    value.to_bytes(8, "little")
                    for value in (0x21, 0x7FFFF7FC8000, 0x33, 0xD30, 16, 0x178BFBFF, 6, 0x1000)
                ),
                last=False,
            ),
        ),
        (c.FileOpen(path="/tmp/t", flags=0, mode=0), b"F6", FileResult(result=6)),
        (c.FileOpen(path="/nope", flags=0, mode=0), b"F-1,2", FileResult(result=-1, errno=2)),
        (
            c.FileReadLink(path="/proc/self/exe"),
            b"F12;/usr/bin/gdbserver",
            FileResult(result=18, data=b"/usr/bin/gdbserver"),
        ),
        (c.SelectThread(operation="g", thread=ThreadId(thread=0)), b"E01", ErrorReply(code=1)),
        # valgrind
        (c.QueryCurrentThread(), b"QC220e", CurrentThread(thread=ThreadId(thread=0x220E))),
        (c.OfferSymbol(), b"OK", Ok()),
        (c.ReadRegister(number=16), b"", Unsupported()),
        # VirtualBox writes a blank and upper case.
        (c.QueryCurrentThread(), b"QC 01", CurrentThread(thread=ThreadId(thread=1))),
        (c.ReadRegister(number=0), b"DEADBEEF", RegisterBlock(data=b"\xde\xad\xbe\xef")),
        # The gdb manual's and lldb's own examples of forms that none of these sends.
        (c.QueryOffsets(), b"Text=0;Data=0;Bss=0", Offsets(text=0, data=0, bss=0)),
        (c.QueryOffsets(), b"TextSeg=400000", SegmentAddresses(text_address=0x400000)),
        (c.Monitor(command="x"), b"68690a", MonitorText(data=b"hi\n")),
        (c.XferWrite(object="spu", offset=0, data=b"ab"), b"2", XferWritten(count=2)),
        (
            c.QueryMemoryRegion(address=0x401000),
            b"start:401000;size:1000;permissions:rx;name:2f782f79;flags:rd ex;",
            MemoryRegion(
                start_address=0x401000,
                size=0x1000,
                permissions="rx",
                name="/x/y",
                other=(("flags", "rd ex"),),
            ),
        ),
        (
            c.QueryMemoryRegion(address=0),
            b"error:6e6f7065;",
            MemoryRegion(error="nope"),
        ),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_live_replies(command: c.Command, raw: bytes, reply: Reply) -> None:
    assert answer(command, raw) == reply


def test_spelling_of_threads_is_kept() -> None:
    reply = answer(c.QueryFirstThreads(), b"mp01.01,fffffffe")
    assert isinstance(reply, ThreadList)
    assert [str(thread) for thread in reply.threads] == ["p01.01", "fffffffe"]


def test_all_registers_of_gdbserver() -> None:
    # gdbserver 13.1 on x86-64 with AVX, at the first instruction of a program, as on the wire.
    raw = (
        b'0*}0*+70e5f*"7f0*}0*?704bfef7ff7f0*!2020* 330*"2b0*}0*}0* 7f030*(f* '
        + b"0*}" * 5
        + b"0*c801f0* 3b"
        + b"0*}" * 38
        + b"0*l"
    )
    block = answer(c.ReadRegisters(), raw)
    assert isinstance(block, RegisterBlock)
    assert block.unavailable is None
    assert block.data[16 * 8 : 17 * 8] == (0x7FFFF7FE4B70).to_bytes(8, "little")


def test_unavailable_registers() -> None:
    block = answer(c.ReadRegisters(), b"01xx02xxxx")
    assert block == RegisterBlock(data=b"\1\0\2\0\0", unavailable=b"\0\1\0\1\1")
    assert c.ReadRegisters().encode_reply(block, DIALECT) == b"01xx02xxxx"
    assert answer(c.ReadRegister(number=1), b"xxxxxxxx") == RegisterBlock(
        data=bytes(4), unavailable=b"\1" * 4
    )


@pytest.mark.parametrize("payload", [b"x", b"0xx0", b"xx0", b"0x", b"xxgg", b"x0", b"xxx"])
def test_unavailable_bytes_have_two_digits(payload: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        c.ReadRegisters().parse_reply(payload, DIALECT)


@given(st.binary(min_size=1))
def test_registers_begin_with_any_byte(data: bytes) -> None:
    for payload in (data.hex().encode(), data.hex().upper().encode()):
        assert c.ReadRegisters().parse_reply(payload, DIALECT) == RegisterBlock(data=data)


@pytest.mark.parametrize(
    "reply",
    [
        ErrorReply(code=256),
        ErrorReply(code=-1),
        ErrorReply(code=1, text="x"),
        ErrorReply(text="\ud800"),
    ],
)
def test_errors_that_cannot_be_sent(reply: ErrorReply) -> None:
    with pytest.raises(LocalProtocolError):
        reply.encode(DIALECT)


def test_decimal_errors_have_two_digits_too() -> None:
    kgdb = Dialect(error_radix=10)
    assert ErrorReply(code=22).encode(kgdb) == b"E22"
    assert ErrorReply(code=22).encode(DIALECT) == b"E16"
    with pytest.raises(LocalProtocolError):
        ErrorReply(code=100).encode(kgdb)


def test_memory_region_without_a_known_key_is_malformed() -> None:
    for payload in (b"hello:1;", b"start", b"start:zz;", b"name:2f7;"):
        with pytest.raises(RemoteProtocolError):
            c.QueryMemoryRegion(address=0).parse_reply(payload, DIALECT)
