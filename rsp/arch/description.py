"""Target descriptions: what a stub says in XML about its registers.

Contents: the reading of ``target.xml`` and what it includes, and the making of a `RegisterLayout`
from it. Not here: asking the stub for the documents, which is the ``fetch`` that the caller gives.

Source: gdb manual, appendix G "Target Descriptions", and gdb/features/gdb-target.dtd.

The documents come from the stub, so everything is bounded, and no entity is ever expanded. The
external DTD that they name is never read. They are read without namespaces, since stubs write
``xi:include`` without declaring the prefix.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from enum import Enum
from io import BytesIO
from typing import TYPE_CHECKING
from xml.sax import SAXException
from xml.sax.handler import ContentHandler

from rsp.arch import i386, x86_64
from rsp.arch.layout import Kind, Register, RegisterLayout
from rsp.arch.layouts import KNOWN, LAYOUTS, make_layout
from rsp.errors import RemoteProtocolError, RspError

if TYPE_CHECKING:
    from collections.abc import Callable
    from xml.sax.xmlreader import AttributesImpl

MAX_BYTES = 1 << 20
MAX_DOCUMENTS = 64
MAX_INCLUDE_DEPTH = 8
MAX_ELEMENT_DEPTH = 16
MAX_REGISTERS = 4096
MAX_REGISTER_BITS = 1 << 16

_NUMBER = re.compile(r"\d{1,10}|0[xX][0-9a-fA-F]{1,8}")
# BFD's names, of which "i386:x86-64:intel" only chooses a syntax, and those that LLVM has.
_ARCHITECTURES = {
    "i386": "i386",
    "i8086": "i386",
    "i386:intel": "i386",
    "i386:x86-64": "x86-64",
    "i386:x86-64:intel": "x86-64",
    "i386:x64-32": "x86-64",
    "i386:x64-32:intel": "x86-64",
    "x86_64": "x86-64",
    "x86-64": "x86-64",
    "amd64": "x86-64",
    "i486": "i386",
    "i586": "i386",
    "i686": "i386",
}
# What lldb-server calls by another name than gdb.
_OTHER_NAMES = {"rflags": "eflags"}

# The registers of the standard features, in gdb's order: what a feature without any `reg` has.
_STANDARD = {
    "i386": {
        "core": (*i386.CORE, *i386.X87),
        "sse": i386.SSE,
        "linux": i386.LINUX,
        "avx": i386.AVX,
        "avx512": i386.AVX512,
        "pkeys": i386.PKEYS,
    },
    "x86-64": {
        "core": (*x86_64.CORE, *x86_64.X87),
        "sse": x86_64.SSE,
        "linux": x86_64.LINUX,
        "segments": x86_64.SEGMENT_BASES,
        "avx": x86_64.AVX,
        "avx512": x86_64.AVX512,
        "pkeys": x86_64.PKEYS,
    },
}
_FEATURE = re.compile(r"org\.gnu\.gdb\.i386\.([a-z0-9]+)")
# What a feature cannot be without.
_NEEDS = {"avx": ("core", "sse"), "avx512": ("core", "sse", "avx")}
_KINDS = {
    "code_ptr": Kind.CODE_POINTER,
    "data_ptr": Kind.DATA_POINTER,
    "i387_ext": Kind.X87,
}


class TypeForm(Enum):
    """The ways in which a description makes types, by the names of the elements."""

    VECTOR = "vector"
    UNION = "union"
    STRUCT = "struct"
    FLAGS = "flags"
    ENUM = "enum"


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeField:
    """A member of a union, struct or flags type, or a value of an enum.

    Attributes:
        name: empty for bits that are reserved.
        type: the name of its type, empty where none is given.
        start, end: the first and last bit, None where it is no bit-field.
        value: of an enum.
    """

    name: str
    type: str = ""
    start: int | None = None
    end: int | None = None
    value: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeDescription:
    """A type that a feature defines for its registers.

    Attributes:
        id: its name.
        form: which kind of type.
        size: in bytes, None where the description does not say.
        element, count: the element type's name and the number of elements, of a vector.
        fields: in the order of the description, which is how gdb shows them.
    """

    id: str
    form: TypeForm
    size: int | None = None
    element: str = ""
    count: int = 0
    fields: tuple[TypeField, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterDescription:
    """A ``reg`` element; ``number`` is given or counted on from the register before.

    Attributes:
        offset: where it lies in ``g``, as lldb-server says; None where the numbers say it.
        within: whether it is a part of others (lldb-server's ``value_regnums``) and has no place of
            its own.
    """

    name: str
    bits: int
    number: int
    offset: int | None = None
    within: bool = False
    type: str = "int"
    group: str = ""
    save_restore: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """A named set of registers and of their types."""

    name: str
    types: tuple[TypeDescription, ...] = ()
    registers: tuple[RegisterDescription, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetDescription:
    """What a stub says of itself.

    Attributes:
        architecture: BFD's name ("i386:x86-64"), empty where not given.
        osabi: "GNU/Linux", …; empty where not given.
        features: in the order of the documents.
    """

    architecture: str = ""
    osabi: str = ""
    features: tuple[Feature, ...] = ()

    @property
    def registers(self) -> tuple[RegisterDescription, ...]:
        """All registers of all features, in the order of the documents."""
        return tuple(register for feature in self.features for register in feature.registers)

    def layout(self, name: str = "target.xml") -> RegisterLayout | None:
        """The layout of ``g`` and the numbers of ``p`` that it describes.

        Registers lie in ``g`` in the order of their numbers, unless it says where. What the
        description cannot say (roles, DWARF numbers, sub-registers) comes from the tables, by name;
        registers whose names these do not have are kept as well. A feature that is named without
        registers has the standard ones.

        Args:
            name: the name of the layout, where it is none of those known by length.

        Returns:
            The layout, or None where no register is described (gdbserver does that for a client
            that did not send ``xmlRegisters=i386``): the length of ``g`` then has to decide.

        Raises:
            RemoteProtocolError: it is not x86, or two registers have one name or number.
        """
        if not self.registers:
            return None
        arch = self._arch({register.name for register in self.registers})
        described = [entry for entry in self.registers if not entry.within]
        numbers = {register.number for register in described}
        names = {register.name for register in described}
        if not len(numbers) == len(names) == len(described):
            raise RemoteProtocolError("two registers of the description have one name or number")
        types = {type_.id: type_ for feature in self.features for type_ in feature.types}
        by_place = any(entry.offset is not None for entry in described)
        described.sort(key=lambda entry: (entry.offset or 0) if by_place else entry.number)
        registers: list[Register] = []
        outside: list[Register] = []
        end = 0
        for entry in described:
            called = _OTHER_NAMES.get(entry.name, entry.name)
            called = entry.name if called in names else called
            known = KNOWN[arch].get(called)
            at = entry.offset if by_place else end
            # What has no place, or another's, is asked for by its number.
            placed = at is not None and at >= end
            register = dataclasses.replace(
                known or _unknown(entry, types),
                bits=entry.bits,
                offset=at if placed else None,
                number=entry.number,
            )
            (registers if placed else outside).append(register)
            if placed and at is not None:
                end = at + entry.bits // 8
        if end > MAX_BYTES:
            raise RemoteProtocolError(f"the registers lie in more than {MAX_BYTES} bytes")
        layout = make_layout(name, arch, [*registers, *outside])
        # A description of what is known by length too is known by that name.
        return next((known for known in LAYOUTS if known.registers == layout.registers), layout)

    def _arch(self, names: set[str]) -> str:
        if self.architecture:
            arch = _ARCHITECTURES.get(self.architecture)
        else:
            arch = "x86-64" if "rip" in names else "i386" if "eip" in names else None
        if arch is None:
            raise RemoteProtocolError(
                f"the target description is for {self.architecture or 'no CPU it names'}; "
                "only i386, i8086 and i386:x86-64 are supported"
            )
        return arch


def _unknown(entry: RegisterDescription, types: dict[str, TypeDescription]) -> Register:
    described = types.get(entry.type)
    kind = _KINDS.get(entry.type, Kind.INTEGER)
    if described is not None:
        kind = Kind.FLAGS if described.form is TypeForm.FLAGS else Kind.VECTOR
    return Register(name=entry.name, bits=entry.bits, kind=kind, group=entry.group or "general")


def parse_target_description(fetch: Callable[[str], bytes]) -> TargetDescription:
    """Read a target description and all that it includes.

    Args:
        fetch: returns the document of an annex; it is asked for "target.xml" first.

    Raises:
        RemoteProtocolError: not well-formed, not a target description, an entity, or larger than
            is reasonable. Errors of the library that ``fetch`` raises go through.

    >>> xml = b'<target><feature name="f"><reg name="eip" bitsize="32"/></feature></target>'
    >>> description = parse_target_description({"target.xml": xml}.__getitem__)
    >>> [register.name for register in description.layout().registers]
    ['eip']
    """
    reader = _Reader(fetch)
    reader.read("target.xml")
    return TargetDescription(
        architecture="".join(reader.text["architecture"]).strip(),
        osabi="".join(reader.text["osabi"]).strip(),
        features=tuple(
            Feature(name=f.name, types=tuple(f.types), registers=tuple(f.registers))
            for f in reader.features
        ),
    )


def read_elements(document: bytes, name: str) -> list[dict[str, str]]:
    """Read the attributes of all elements of a name: of the flat lists that ``qXfer`` has, too.

    Raises:
        RemoteProtocolError: it is not well-formed, or has an entity.

    >>> read_elements(b'<threads><thread id="p1.1" name="sh"/></threads>', "thread")
    [{'id': 'p1.1', 'name': 'sh'}]
    """
    handler = _Elements(name)
    _parse(f"the list of <{name}>", document, handler)
    return handler.found


class _Elements(ContentHandler):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.found: list[dict[str, str]] = []
        self._name = name

    def startElement(self, name: str, attrs: AttributesImpl) -> None:  # noqa: N802 - SAX's name
        if name == self._name:
            self.found.append(dict(attrs.items()))


def _parse(title: str, document: bytes, handler: ContentHandler) -> None:
    from defusedxml.sax import make_parser

    parser = make_parser()
    # The external one is the DTD, which the parser then leaves alone; entities are refused.
    parser.forbid_external = False
    parser.setContentHandler(handler)
    try:
        # A stub that keeps the document as a string of C may send its end as well.
        parser.parse(BytesIO(document.rstrip(b"\0")))
    except RspError:
        raise
    # ValueError: an entity, or an encoding that expat cannot take; LookupError: no encoding.
    except (SAXException, ValueError, LookupError) as error:
        raise RemoteProtocolError(f"{title} is not sound XML: {error}", data=document) from error


@dataclass(slots=True)
class _FeatureInProgress:
    name: str
    types: list[TypeDescription] = field(default_factory=list)
    registers: list[RegisterDescription] = field(default_factory=list)


class _Reader(ContentHandler):
    """Collects what the elements say; an include is read in its place, by the same reader."""

    def __init__(self, fetch: Callable[[str], bytes]) -> None:
        super().__init__()
        self.text: dict[str, list[str]] = {"architecture": [], "osabi": []}
        self.features: list[_FeatureInProgress] = []
        self._fetch = fetch
        self._open: list[str] = []
        self._documents: list[str] = []
        self._including: list[str] = []
        self._bytes = 0
        self._registers = 0
        self._next_number = 0
        self._register_bits = 0
        self._type: TypeDescription | None = None
        self._fields: list[TypeField] = []

    def read(self, annex: str) -> None:
        self._documents.append(annex)
        self._including.append(annex)
        if len(self._documents) > MAX_DOCUMENTS or len(self._including) > MAX_INCLUDE_DEPTH:
            raise RemoteProtocolError(
                f"the target description includes too many documents: {annex} is beyond "
                f"{MAX_DOCUMENTS}, or {MAX_INCLUDE_DEPTH} deep"
            )
        data = self._fetch(annex)
        self._bytes += len(data)
        if self._bytes > MAX_BYTES:
            raise RemoteProtocolError(f"the target description has more than {MAX_BYTES} bytes")
        _parse(annex, data, self)
        self._including.pop()

    def startElement(self, name: str, attrs: AttributesImpl) -> None:  # noqa: N802 - SAX's name
        if len(self._open) >= MAX_ELEMENT_DEPTH:
            raise RemoteProtocolError("the elements of the target description lie too deep")
        if not self._open and name not in {"target", "feature"}:
            raise RemoteProtocolError(
                f"{self._including[-1]} is not a target description: it starts with <{name[:40]}>"
            )
        self._open.append(name)
        match name:
            case "feature":
                self.features.append(_FeatureInProgress(name=attrs.get("name", "")))
            case "reg":
                self._feature().registers.append(self._register(attrs))
            case "vector" | "union" | "struct" | "flags" | "enum":
                self._type = TypeDescription(
                    id=_required(attrs, "id", name),
                    form=TypeForm(name),
                    size=_number(attrs, "size"),
                    element=attrs.get("type", ""),
                    count=_number(attrs, "count") or 0,
                )
            case "field" | "evalue" if self._type is not None:
                self._fields.append(_field(attrs))
            case _ if name.rpartition(":")[2] == "include":
                self.read(_required(attrs, "href", name))

    def endElement(self, name: str) -> None:  # noqa: N802 - SAX's name
        self._open.pop()
        if name == "feature" and self.features and not self.features[-1].registers:
            self._imply()
        if self._type is not None and name == self._type.form.value:
            complete = dataclasses.replace(self._type, fields=tuple(self._fields))
            self._feature().types.append(complete)
            self._type = None
            self._fields = []

    def characters(self, content: str) -> None:
        if self._open[-1] in self.text:
            self.text[self._open[-1]].append(content)

    def _imply(self) -> None:
        """Give a standard feature without any register those that it has, and needs."""
        standard = _STANDARD.get(_ARCHITECTURES.get("".join(self.text["architecture"]).strip(), ""))
        match = _FEATURE.fullmatch(self.features[-1].name)
        if standard is None or match is None or match[1] not in standard:
            return
        before = {register.name for feature in self.features for register in feature.registers}
        for part in (*_NEEDS.get(match[1], ("core",)), match[1]):
            names = [register.name for register in standard[part]]
            if before.isdisjoint(names):
                for register in standard[part]:
                    self._add(register.name, register.bits)
            before.update(names)

    def _add(self, name: str, bits: int) -> None:
        self.features[-1].registers.append(
            RegisterDescription(name=name, bits=bits, number=self._next_number)
        )
        self._next_number += 1

    def _feature(self) -> _FeatureInProgress:
        if not self.features:
            raise RemoteProtocolError("the target description has a register outside a feature")
        return self.features[-1]

    def _register(self, attrs: AttributesImpl) -> RegisterDescription:
        name = _required(attrs, "name", "reg")
        bits = _number(attrs, "bitsize")
        if not bits or bits % 8 or bits > MAX_REGISTER_BITS:
            raise RemoteProtocolError(
                f"register {name[:40]} of the target description has {bits} bits, which is no "
                f"number of bytes up to {MAX_REGISTER_BITS // 8}"
            )
        self._registers += 1
        self._register_bits += bits
        if self._registers > MAX_REGISTERS or self._register_bits > MAX_BYTES * 8:
            raise RemoteProtocolError(
                f"the target description has more than {MAX_REGISTERS} registers, "
                f"or more than {MAX_BYTES} bytes of them"
            )
        given = _number(attrs, "regnum")
        number = self._next_number if given is None else given
        self._next_number = number + 1
        return RegisterDescription(
            name=name,
            bits=bits,
            number=number,
            type=attrs.get("type", "int"),
            group=attrs.get("group", ""),
            offset=_number(attrs, "offset"),
            within=bool(attrs.get("value_regnums")),
            save_restore=attrs.get("save-restore", "yes") != "no",
        )


def _field(attrs: AttributesImpl) -> TypeField:
    start = _number(attrs, "start")
    end = _number(attrs, "end")
    return TypeField(
        name=attrs.get("name", ""),
        type=attrs.get("type", ""),
        start=start,
        end=start if end is None else end,
        value=_number(attrs, "value"),
    )


def _required(attrs: AttributesImpl, attribute: str, element: str) -> str:
    value = attrs.get(attribute)
    if not value:
        raise RemoteProtocolError(
            f"an element <{element[:40]}> of the target description has no {attribute}"
        )
    return str(value)


def _number(attrs: AttributesImpl, attribute: str) -> int | None:
    text = attrs.get(attribute)
    if text is None:
        return None
    if not _NUMBER.fullmatch(text):
        raise RemoteProtocolError(
            f"{attribute}={text[:40]!r} of the target description is not a number"
        )
    return int(text, 16 if text[:2] in ("0x", "0X") else 10)
