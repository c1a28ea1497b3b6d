"""Commands: their spelling, both ways, as gdb sends them, and their answers as stubs give them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsp.errors import LocalProtocolError, RemoteProtocolError
from rsp.testing import strategies as rsp_st
from rsp.wire import commands as c
from rsp.wire.features import OFFERED
from rsp.wire.replies import (
    BinaryData,
    Dialect,
    ErrorReply,
    MemoryData,
    Ok,
    Raw,
    ThreadList,
    Unsupported,
)
from rsp.wire.threads import ALL, ThreadId

DIALECT = Dialect()
KGDB = Dialect(error_radix=10, thread_list_end=b"")
LLDB = Dialect(binary_prefix=b"")
P1 = ThreadId.parse("p1.1")


# --- spelling ---

SPELLINGS: list[tuple[bytes, c.Command]] = [
    (b"?", c.QueryStop()),
    (b"g", c.ReadRegisters()),
    (b"G0102", c.WriteRegisters(data=b"\1\2")),
    (b"p10", c.ReadRegister(number=16)),
    (b"P10=f0ff000000000000", c.WriteRegister(number=16, data=b"\xf0\xff" + bytes(6))),
    (b"mfffffff0,10", c.ReadMemory(address=0xFFFFFFF0, length=16)),
    (b"M7c00,2:ebfe", c.WriteMemory(address=0x7C00, data=b"\xeb\xfe")),
    (b"X7c00,3:}\x00#", c.WriteMemoryBinary(address=0x7C00, data=b"}\0#")),
    (b"X0,0:", c.WriteMemoryBinary(address=0)),
    (b"x0,0", c.ReadMemoryBinary(address=0, length=0)),
    (b"c", c.Continue()),
    (b"c7c00", c.Continue(address=0x7C00)),
    (b"C0b", c.ContinueWithSignal(signal=11)),
    (b"C0b;7c00", c.ContinueWithSignal(signal=11, address=0x7C00)),
    (b"s", c.Step()),
    (b"3", c.EnterKdb()),
    (b"S05", c.StepWithSignal(signal=5)),
    (b"vCont;c", c.VCont(actions=(c.Action(kind=c.ActionKind.CONTINUE),))),
    (
        b"vCont;S05:p1.1;r1000,1010:p1.1;t;c:p1.-1",
        c.VCont(
            actions=(
                c.Action(kind=c.ActionKind.STEP, signal=5, thread=P1),
                c.Action(kind=c.ActionKind.RANGE_STEP, start=0x1000, end=0x1010, thread=P1),
                c.Action(kind=c.ActionKind.STOP),
                c.Action(kind=c.ActionKind.CONTINUE, thread=ThreadId(process=1, thread=-1)),
            )
        ),
    ),
    (b"vCont?", c.QueryVCont()),
    (b"vCtrlC", c.Interrupt()),
    (b"vStopped", c.NextStop()),
    (b"vMustReplyEmpty", c.MustReplyEmpty()),
    (b"bs", c.ReverseStep()),
    (b"bc", c.ReverseContinue()),
    (b"Hg0", c.SelectThread(operation="g", thread=ThreadId(thread=0))),
    (b"Hc-1", c.SelectThread(operation="c", thread=ALL)),
    (b"Hgp01.02", c.SelectThread(operation="g", thread=ThreadId.parse("p01.02"))),
    (b"Tfffffffe", c.IsThreadAlive(thread=ThreadId(thread=0xFFFFFFFE))),
    (b"D", c.Detach()),
    (b"D;1", c.Detach(process=1)),
    (b"k", c.Kill()),
    (b"R0", c.Restart()),
    (b"!", c.EnableExtendedMode()),
    (
        b"qSupported:" + OFFERED.encode(),  # test_features.py has its spelling
        c.QuerySupported(features=OFFERED),
    ),
    (b"QStartNoAckMode", c.StartNoAckMode()),
    (
        b"qXfer:features:read:target.xml:0,ffb",
        c.XferRead(object="features", annex="target.xml", offset=0, length=0xFFB),
    ),
    (b"qXfer:auxv:read::0,1000", c.XferRead(object="auxv", offset=0, length=0x1000)),
    (b"qXfer:siginfo:write::0:a:b", c.XferWrite(object="siginfo", offset=0, data=b"a:b")),
    (b"qfThreadInfo", c.QueryFirstThreads()),
    (b"qsThreadInfo", c.QueryNextThreads()),
    (b"qThreadExtraInfo,p1.1", c.QueryThreadExtraInfo(thread=P1)),
    (b"qC", c.QueryCurrentThread()),
    (b"qAttached", c.QueryAttached()),
    (b"qAttached:a410", c.QueryAttached(process=0xA410)),
    (b"qOffsets", c.QueryOffsets()),
    (b"qSymbol::", c.OfferSymbol()),
    (b"qSymbol::6d61696e", c.OfferSymbol(name="main")),
    (b"qSymbol:1139:6d61696e", c.OfferSymbol(name="main", address=0x1139)),
    (b"qRcmd,696e666f20726567697374657273", c.Monitor(command="info registers")),
    (b"qCRC:401000,10", c.QueryCrc(address=0x401000, length=16)),
    (
        b"qSearch:memory:400000;1000;E;F",
        c.SearchMemory(address=0x400000, length=0x1000, pattern=b"E;F"),
    ),
    (b"qMemoryRegionInfo:401000", c.QueryMemoryRegion(address=0x401000)),
    (
        b"Z0,7c00,1",
        c.InsertBreakpoint(type=c.BreakpointType.SOFTWARE, address=0x7C00, kind=1),
    ),
    (
        b"Z1,7c00,1;X3,220127",
        c.InsertBreakpoint(
            type=c.BreakpointType.HARDWARE, address=0x7C00, kind=1, conditions=b"X3,220127"
        ),
    ),
    (b"z4,404034,8", c.RemoveBreakpoint(type=c.BreakpointType.ACCESS, address=0x404034, kind=8)),
    (b"vRun;2f62696e2f6c73;2d6c;", c.Run(filename="/bin/ls", arguments=("-l", ""))),
    (b"vRun;", c.Run()),
    (b"vAttach;21e0", c.Attach(process=0x21E0)),
    (b"vKill;1", c.KillProcess(process=1)),
    (b"vFile:setfs:0", c.FileSetFilesystem(process=0)),
    (b"vFile:open:2f746d70,0,1ff", c.FileOpen(path="/tmp", flags=0, mode=0o777)),
    (b"vFile:close:6", c.FileClose(descriptor=6)),
    (b"vFile:pread:6,3fff,0", c.FileRead(descriptor=6, count=0x3FFF, offset=0)),
    (b"vFile:pwrite:6,0,a,b", c.FileWrite(descriptor=6, offset=0, data=b"a,b")),
    (b"vFile:fstat:6", c.FileStat(descriptor=6)),
    (b"vFile:unlink:2f78", c.FileUnlink(path="/x")),
    (b"vFile:readlink:2f78", c.FileReadLink(path="/x")),
    (b"QPassSignals:e;10;", c.PassSignals(signals=(14, 16))),
    (b"QPassSignals:", c.PassSignals(signals=())),
    (b"QProgramSignals:0;1;", c.ProgramSignals(signals=(0, 1))),
    (b"QThreadEvents:1", c.SetThreadEvents(enabled=True)),
    (b"QNonStop:0", c.SetNonStop(enabled=False)),
    (b"QDisableRandomization:1", c.SetDisableRandomization(disabled=True)),
    (b"qqemu.sstepbits", c.QueryStepBits()),
    (b"qqemu.sstep", c.QueryStepFlags()),
    (b"Qqemu.sstep=0x7", c.SetStepFlags(flags=7)),
    (b"qqemu.PhyMemMode", c.QueryPhysicalMemoryMode()),
    (b"Qqemu.PhyMemMode:1", c.SetPhysicalMemoryMode(enabled=True)),
    (b"qTStatus", c.Unknown(payload=b"qTStatus")),
]


@pytest.mark.parametrize(("payload", "command"), SPELLINGS, ids=lambda v: repr(v)[:30])
def test_spelling(payload: bytes, command: c.Command) -> None:
    assert command.encode() == payload
    assert c.parse(payload) == command


def test_every_command_is_spelled_above() -> None:
    assert {type(command) for _, command in SPELLINGS} == {*c.COMMANDS, c.Unknown}


def test_upper_case_hex_is_understood() -> None:
    assert c.parse(b"mFFFF0,1F") == c.ReadMemory(address=0xFFFF0, length=31)
    assert c.parse(b"M0,1:EB") == c.WriteMemory(address=0, data=b"\xeb")
    assert c.parse(b"QPassSignals:0e;10") == c.PassSignals(signals=(14, 16))
    assert c.parse(b"Qqemu.sstep=5") == c.SetStepFlags(flags=5)
    assert c.parse(b"C5") == c.ContinueWithSignal(signal=5)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"qCfoo",
        b"qP0000001f0000000000000001",
        b"qXferx",
        b"vContinue",
        b"vFile:stat:2f",
        b"qSearch:registers:0",
        b"b9600",
        b"$",
        b"\x03",
        b"\n",
        b"q",
        b"v",
        b"qL1200000000000000000",
        b"qSupportedX",
    ],
)
def test_packets_of_other_names_are_unknown(payload: bytes) -> None:
    assert c.parse(payload) == c.Unknown(payload=payload)


@pytest.mark.parametrize(
    "payload",
    [
        b"m",
        b"m1000",
        b"m1000,",
        b"m1000,zz",
        b"m-1,4",
        b"m1 ,4",
        b"m0x10,4",
        b"m11112222333344445,1",
        b"M0,2:eb",  # the length says two
        b"M0,1:e",
        b"X0,0:a",
        b"gg",
        b"Z5,0,1",
        b"Z0,0",
        b"Hg",
        b"Hgx",
        b"vCont;",
        b"vCont;q",
        b"vCont;r1",
        b"vCont;c:",
        b"D;",
        b"QNonStop:2",
        b"qXfer:features:read:target.xml",
        b"qRcmd,1",
        b"kill",
        b"qSupported:PacketSize=zz",
    ],
)
def test_malformed_commands(payload: bytes) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        c.parse(payload)
    assert caught.value.data in payload


@pytest.mark.parametrize(
    "command",
    [
        c.ReadMemory(address=-1, length=4),
        c.ReadMemory(address=1 << 64, length=4),
        c.ReadMemory(address=0, length=-4),
        c.ReadRegister(number=-1),
        c.ContinueWithSignal(signal=256),
        c.XferRead(object="a:b", offset=0, length=1),
        c.XferRead(object="a", annex="b:c", offset=0, length=1),
        c.SelectThread(operation="g0", thread=ALL),
        c.Monitor(command="\ud800"),
        c.VCont(actions=(c.Action(kind=c.ActionKind.STOP, signal=5),)),
        c.VCont(actions=(c.Action(kind=c.ActionKind.RANGE_STEP, start=5),)),
        c.VCont(actions=(c.Action(kind=c.ActionKind.STEP, start=5, end=6),)),
    ],
    ids=repr,
)
def test_what_cannot_be_sent(command: c.Command) -> None:
    with pytest.raises(LocalProtocolError):
        command.encode()


def test_what_resumes_and_what_may_be_repeated() -> None:
    resuming = {cls for cls in c.COMMANDS if cls.resumes}
    assert resuming == {
        c.Continue,
        c.ContinueWithSignal,
        c.EnterKdb,
        c.Step,
        c.StepWithSignal,
        c.VCont,
        c.ReverseStep,
        c.ReverseContinue,
        c.Run,
        c.Attach,
    }
    assert {cls for cls in c.COMMANDS if not cls.answered} == {c.Kill, c.Restart}
    assert not any(cls.idempotent for cls in resuming)
    for cls in (c.Kill, c.Restart, c.Detach, c.KillProcess, c.QueryNextThreads, c.Monitor):
        assert not cls.idempotent
    assert not c.Unknown.idempotent


# --- answers ---


def test_errors_are_exactly_three_characters_or_have_a_dot() -> None:
    read = c.ReadMemory(address=0, length=64)
    assert read.parse_reply(b"E14", DIALECT) == ErrorReply(code=0x14)
    assert read.parse_reply(b"E.no such page", DIALECT) == ErrorReply(text="no such page")
    # What begins with E may be data, which some clients take for an error.
    assert read.parse_reply(b"E0", DIALECT) == MemoryData(data=b"\xe0")
    assert read.parse_reply(b"E014", DIALECT) == MemoryData(data=b"\xe0\x14")
    assert read.parse_reply(b"EA5BE000F030", DIALECT) == MemoryData(
        data=b"\xea\x5b\xe0\x00\xf0\x30"
    )


def test_errors_of_kgdb_are_decimal() -> None:
    read = c.ReadMemory(address=0, length=64)
    assert read.parse_reply(b"E22", KGDB) == ErrorReply(code=22)
    assert read.parse_reply(b"E22", DIALECT) == ErrorReply(code=0x22)
    assert read.parse_reply(b"Eff", KGDB) == ErrorReply(text="ff")


def test_the_empty_reply() -> None:
    assert c.QueryVCont().parse_reply(b"", DIALECT) == Unsupported()
    # QEMU 7.2 answers m0,0 with nothing, which is what was read.
    assert c.ReadMemory(address=0, length=0).parse_reply(b"", DIALECT) == MemoryData(data=b"")


def test_memory_beyond_what_was_asked_for_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="another request"):
        c.ReadMemory(address=0, length=1).parse_reply(b"0000", DIALECT)
    with pytest.raises(RemoteProtocolError):
        c.ReadMemoryBinary(address=0, length=1).parse_reply(b"b00", DIALECT)
    short = c.ReadMemory(address=0, length=4).parse_reply(b"00", DIALECT)
    assert short == MemoryData(data=b"\0")


@pytest.mark.parametrize("payload", [b"0", b"0g", b"xx", b" 00", b"00 ", b"OK", b"\xff\xff"])
def test_memory_that_is_no_hex(payload: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        c.ReadMemory(address=0, length=4).parse_reply(payload, DIALECT)


def test_binary_memory_in_gdbs_form() -> None:
    read = c.ReadMemoryBinary(address=0, length=3)
    assert read.parse_reply(b"bE01", DIALECT) == BinaryData(data=b"E01")
    assert read.parse_reply(b"b", DIALECT) == BinaryData(data=b"")
    assert read.parse_reply(b"E01", DIALECT) == ErrorReply(code=1)
    with pytest.raises(RemoteProtocolError):
        read.parse_reply(b"abc", DIALECT)


def test_binary_memory_in_lldbs_form() -> None:
    assert c.ReadMemoryBinary(address=0, length=0).parse_reply(b"OK", LLDB) == Ok()
    read = c.ReadMemoryBinary(address=0, length=4)
    assert read.parse_reply(b"E.no", LLDB) == BinaryData(data=b"E.no")
    assert read.parse_reply(b"OK", LLDB) == BinaryData(data=b"OK")
    assert read.parse_reply(b"E01", LLDB) == ErrorReply(code=1)
    assert read.parse_reply(b"", LLDB) == Unsupported()


def test_thread_lists() -> None:
    first, following = c.QueryFirstThreads(), c.QueryNextThreads()
    one = ThreadId(thread=1)
    assert first.parse_reply(b"m01", DIALECT) == ThreadList(threads=(one,))
    assert following.parse_reply(b"l", DIALECT) == ThreadList(last=True)
    # A comma behind the last one, and an empty packet in the place of l (kgdb).
    assert first.parse_reply(b"m01,", DIALECT) == ThreadList(threads=(one,))
    assert following.parse_reply(b"", DIALECT) == ThreadList(last=True)
    assert first.parse_reply(b"", DIALECT) == Unsupported()
    assert following.encode_reply(ThreadList(last=True), KGDB) == b""
    for payload in (b"m1,,2", b"m1,2,,", b"01", b"m1;2", b"mx"):
        with pytest.raises(RemoteProtocolError):
            first.parse_reply(payload, DIALECT)


def test_an_answer_to_another_command_is_refused() -> None:
    for command, payload in [
        (c.QueryCurrentThread(), b"OK"),
        (c.Continue(), b"l"),
        (c.ReadRegisters(), b"QC01"),
        (c.SelectThread(operation="g", thread=ALL), b"T05thread:01;"),
        (c.QuerySupported(), b"PacketSize=zz"),
        (c.QueryOffsets(), b"Text=0"),
        (c.WriteMemory(address=0, data=b""), b"OKAY"),
    ]:
        with pytest.raises(RemoteProtocolError) as caught:
            command.parse_reply(payload, DIALECT)
        assert caught.value.data in payload


def test_a_stub_may_not_answer_with_another_commands_reply() -> None:
    with pytest.raises(LocalProtocolError):
        c.ReadRegisters().encode_reply(ThreadList(), DIALECT)


def test_unknown_commands_get_raw_replies() -> None:
    unknown = c.Unknown(payload=b"qTStatus")
    for payload in (b"", b"E01", b"OK", b"T0;tnotrun:0"):
        assert unknown.parse_reply(payload, DIALECT) == Raw(data=payload)


# --- properties ---


@given(rsp_st.commands())
def test_commands_round_trip(command: c.Command) -> None:
    assert c.parse(command.encode()) == command


@given(st.data(), st.sampled_from([DIALECT, KGDB]))
def test_replies_round_trip(data: st.DataObject, dialect: Dialect) -> None:
    command = data.draw(rsp_st.commands())
    reply = data.draw(rsp_st.replies(command))
    payload = command.encode_reply(reply, dialect)
    parsed = command.parse_reply(payload, dialect)
    if payload == b"" and reply == ThreadList(last=True) and parsed == Unsupported():
        return  # kgdb's end of the list, as the very first part, is an unknown command's answer
    assert parsed == reply


@pytest.mark.parametrize("cls", [*c.COMMANDS, c.Unknown])
def test_every_command_round_trips(cls: type[c.Command]) -> None:
    @given(st.data())
    def check(data: st.DataObject) -> None:
        command = data.draw(rsp_st.commands(types=[cls]))
        assert type(command) is cls
        assert c.parse(command.encode()) == command
        reply = data.draw(rsp_st.replies(command))
        assert command.parse_reply(command.encode_reply(reply, DIALECT), DIALECT) == reply

    check()


@given(st.one_of(st.binary(), rsp_st.payloads()))
def test_any_bytes_are_a_command_or_an_error(payload: bytes) -> None:
    try:
        command = c.parse(payload)
    except RemoteProtocolError:
        return
    assert c.parse(command.encode()) == command


@given(
    rsp_st.commands(),
    st.one_of(st.binary(), rsp_st.payloads()),
    st.sampled_from([DIALECT, KGDB, LLDB]),
)
def test_any_bytes_are_a_reply_or_an_error(
    command: c.Command, payload: bytes, dialect: Dialect
) -> None:
    try:
        reply = command.parse_reply(payload, dialect)
    except RemoteProtocolError:
        return
    assert reply == reply.__class__(**{name: getattr(reply, name) for name in reply._fields})


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_the_quick_way_of_numbers_is_the_plain_one(address: int, length: int) -> None:
    encoded = c.ReadMemory(address=address, length=length).encode()
    assert encoded == b"m%x,%x" % (address, length)
