"""Target descriptions: those of real stubs (tests/arch/data), and hostile ones."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsp.arch import description as limits
from rsp.arch.description import TypeForm, parse_target_description
from rsp.arch.layout import Kind, Register, Role
from rsp.arch.layouts import LAYOUTS
from rsp.errors import RemoteProtocolError, RspTimeout

if TYPE_CHECKING:
    from collections.abc import Callable

DATA = Path(__file__).parent / "data"
BY_NAME = {layout.name: layout for layout in LAYOUTS}


def captured(stub: str) -> Callable[[str], bytes]:
    return lambda annex: (DATA / stub / annex).read_bytes()


def document(body: str) -> Callable[[str], bytes]:
    return {"target.xml": f"<target>{body}</target>".encode()}.__getitem__


def feature(body: str) -> Callable[[str], bytes]:
    return document(f'<feature name="f">{body}</feature>')


@pytest.mark.parametrize(
    ("stub", "layout", "size"),
    [
        ("qemu-x86_64", "qemu-x86-64", 608),
        ("qemu-i386", "qemu-i386", 344),
        ("gdbserver-x86-64", "gdbserver-x86-64-avx512-pkeys", 2420),
        ("gdbserver-i386", "gdbserver-i386-avx512-pkeys", 764),
        ("valgrind", "valgrind-x86-64-avx", 800),
    ],
)
def test_what_real_stubs_describe_is_what_the_tables_say(stub: str, layout: str, size: int) -> None:
    described = parse_target_description(captured(stub)).layout(layout)
    assert described is not None
    assert described.size == size
    assert described == BY_NAME[layout]


def test_registers_in_a_comment_of_many_lines_do_not_exist() -> None:
    """QEMU 7.2 hides cs_base and three more; a reader of lines sees the three, and 632 bytes."""
    assert b'reg name="cs_base"' in captured("qemu-x86_64")("i386-64bit.xml")
    described = parse_target_description(captured("qemu-x86_64")).layout()
    assert described is not None
    assert "cs_base" not in described
    assert described.by_number(24).name == "fs_base"


def test_features_types_and_fields() -> None:
    description = parse_target_description(captured("gdbserver-x86-64"))
    assert (description.architecture, description.osabi) == ("i386:x86-64", "GNU/Linux")
    assert [f.name.rpartition(".")[2] for f in description.features] == (
        ["core", "sse", "linux", "segments", "avx", "avx512", "pkeys"]
    )
    types = {t.id: t for f in description.features for t in f.types}
    assert types["v4f"].form is TypeForm.VECTOR
    assert (types["v4f"].element, types["v4f"].count) == ("ieee_single", 4)
    assert types["vec128"].fields[-1].name == "uint128"
    flags = types["i386_eflags"]
    assert (flags.form, flags.size, flags.fields[0].name) == (TypeForm.FLAGS, 4, "CF")
    assert (flags.fields[-1].start, flags.fields[-1].end) == (21, 21)


def test_a_description_without_registers_leaves_it_to_the_length() -> None:
    """gdbserver 13.1, to a client that did not send xmlRegisters=i386."""
    description = parse_target_description(captured("gdbserver-x86-64-no-xml"))
    assert description.architecture == "i386:x86-64"
    assert description.layout() is None


def test_numbers_count_on_and_order_the_layout() -> None:
    fetch = feature(
        '<reg name="eip" bitsize="32" regnum="5"/><reg name="mine" bitsize="24"/>'
        '<reg name="eax" bitsize="32" regnum="0x0"/><reg name="ecx" bitsize="32"/>'
    )
    layout = parse_target_description(fetch).layout()
    assert layout is not None
    assert layout.arch == "i386"
    assert [(r.name, r.number, r.offset) for r in layout.registers] == [
        ("eax", 0, 0),
        ("ecx", 1, 4),
        ("eip", 5, 8),
        ("mine", 6, 12),
    ]
    assert layout.role(Role.PC).name == "eip"
    assert layout.decode(bytes(range(15)))["mine"] == 0x0E0D0C


def test_unknown_registers_are_kept_with_the_kind_of_their_type() -> None:
    fetch = feature(
        '<struct id="s" size="8"><field name="a" start="0" end="3"/><field name="b"/></struct>'
        '<enum id="e" size="4"><evalue name="one" value="1"/></enum>'
        '<flags id="f" size="4"><field name="X" start="3"/></flags>'
        '<reg name="rip" bitsize="64"/><reg name="a" bitsize="32" type="f" save-restore="no"/>'
        '<reg name="b" bitsize="64" type="code_ptr" group="mine"/>'
    )
    description = parse_target_description(fetch)
    layout = description.layout()
    assert layout is not None
    known = [layout["a"], layout["b"]]
    assert [r.kind for r in known if isinstance(r, Register)] == [Kind.FLAGS, Kind.CODE_POINTER]
    assert isinstance(known[1], Register)
    assert known[1].group == "mine"
    assert not description.registers[1].save_restore
    assert [t.form for t in description.features[0].types] == (
        [TypeForm.STRUCT, TypeForm.ENUM, TypeForm.FLAGS]
    )
    assert description.features[0].types[1].fields[0].value == 1
    assert description.features[0].types[2].fields[0].end == 3


ENTITIES = '<!DOCTYPE target [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;">]><target>&b;</target>'
EXTERNAL = '<!DOCTYPE target [<!ENTITY a SYSTEM "file:///etc/passwd">]><target>&a;</target>'
ALPHA = '<feature name="f"><reg name="pc" bitsize="64"/></feature>'
CLASH = '<feature name="f"><reg name="{}" bitsize="32"/><reg name="{}" bitsize="32"{}/></feature>'


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        ("", "not sound XML"),
        ("<target>", "not sound XML"),
        ("\0\1\2", "not sound XML"),
        ('<?xml version="1.0" encoding="nonesuch"?><target/>', "not sound XML"),
        ('<?xml version="1.0" encoding="utf-7"?><target/>', "not sound XML"),
        (ENTITIES, "not sound XML"),
        (EXTERNAL, "not sound XML"),
        ("<html/>", "not a target description"),
        ("<target><reg name='a' bitsize='32'/></target>", "outside a feature"),
        ("<feature name='f'><reg bitsize='32'/></feature>", "has no name"),
        ("<feature name='f'><reg name='a'/></feature>", "no number of bytes"),
        ("<feature name='f'><reg name='a' bitsize='12'/></feature>", "no number of bytes"),
        ("<feature name='f'><reg name='a' bitsize='0'/></feature>", "no number of bytes"),
        ("<feature name='f'><reg name='a' bitsize='1000000000'/></feature>", "no number of by"),
        ("<feature name='f'><reg name='a' bitsize='-8'/></feature>", "not a number"),
        ("<feature name='f'><vector type='int8'/></feature>", "has no id"),
        ("<target><xi:include/></target>", "has no href"),
        ("<target>" * 20 + "</target>" * 20, "too deep"),
        (" " * (limits.MAX_BYTES + 1), "more than"),
        (
            "<feature name='f'>"
            + "".join(f"<reg name='a{n}' bitsize='8'/>" for n in range(5000))
            + "</feature>",
            "more than",
        ),
        ("<target><xi:include href='target.xml'/></target>", "too many documents"),
    ],
    ids=lambda value: value[:30],
)
def test_hostile_documents(xml: str, message: str) -> None:
    with pytest.raises(RemoteProtocolError, match=message):
        parse_target_description(lambda _annex: xml.encode())


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        (f"<target><architecture>aarch64</architecture>{ALPHA}</target>", "aarch64"),
        (f"<target>{ALPHA}</target>", "only i386"),
        (CLASH.format("eip", "eip", ""), "one name or number"),
        (CLASH.format("eip", "eax", ' regnum="0"'), "one name or number"),
    ],
)
def test_descriptions_that_make_no_layout(xml: str, message: str) -> None:
    description = parse_target_description(lambda _annex: xml.encode())
    with pytest.raises(RemoteProtocolError, match=message):
        description.layout()


def test_too_many_includes_side_by_side() -> None:
    includes = "".join(f'<xi:include href="{n}"/>' for n in range(limits.MAX_DOCUMENTS))
    fetch = {"target.xml": f"<target>{includes}</target>".encode()}
    with pytest.raises(RemoteProtocolError, match="too many documents"):
        parse_target_description(lambda annex: fetch.get(annex, b"<feature name='f'/>"))


def test_errors_of_fetch_go_through_an_include() -> None:
    def fetch(annex: str) -> bytes:
        if annex == "target.xml":
            return b'<target><xi:include href="core.xml"/></target>'
        raise RspTimeout("no answer", timeout=1)

    with pytest.raises(RspTimeout):
        parse_target_description(fetch)


@given(st.data())
def test_a_damaged_document_is_read_or_refused(data: st.DataObject) -> None:
    xml = bytearray(captured("qemu-i386")("i386-32bit.xml"))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(xml) - 1))
        xml[at : at + data.draw(st.integers(0, 30))] = data.draw(st.binary(max_size=8))
    with suppress(RemoteProtocolError):
        parse_target_description(lambda _annex: bytes(xml)).layout()
