"""The modules of a running kernel: where each lies, and the file with its symbols.

Contents: the walk along the kernel's list, the places of a module's sections in the structures that
kernels have had for them, and its parameters. Which structure it is, is asked of the kernel's
types. Applying a file's relocations is the business of ``rsp.symbols``.

Sources: Linux include/linux/module.h, kernel/module/sysfs.c, kernel/module/tree_lookup.c,
kernel/params.c.
"""

from __future__ import annotations

from functools import cached_property
from itertools import count, islice
from typing import TYPE_CHECKING, Final

from rsp.errors import MemoryFault, RspError, SymbolError
from rsp.inferior.evaluation import evaluate_at
from rsp.linux.records import Record, has_member, place_of, read_at
from rsp.symbols.types.types import Enum
from rsp.values.strings import read_string
from rsp.values.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rsp.inferior.inferior import Inferior
    from rsp.symbols.types.types import Type

MOST: Final = 4096
"""So many modules are believed, and so many sections and parameters of one."""
_MEMORY: Final = {"mem": "struct module_memory", "core_layout": "struct module_layout"}
"""The members with the memory of a module, from 6.4 and from 4.5, and the type of them."""
_DEEPEST: Final = 64
"""So deep is a balanced tree of any size believed to be."""
_NAME: Final = 64
_LONGEST: Final = 4096  # bytes of a parameter's text
_PER_CPU: Final = ".data..percpu"
_BUILD_ID: Final = ".note.gnu.build-id"
_NOTE_HEADER: Final = 16
_STATES: Final = "MODULE_STATE_"

# The numbers that param_get_NAME of kernel/params.c prints in decimal.
_NUMBERS: Final = {
    f"param_ops_{name}": name
    for name in ("byte", "short", "ushort", "int", "uint", "long", "ulong", "ullong", "hexint")
}
_SIZES: Final = {"byte": 1, "short": 2, "int": 4, "hexint": 4, "long": 0, "llong": 8}
# Those that print Y or N, and whether that is the other way round.
_FLAGS: Final = {
    "param_ops_bool": False,
    "param_ops_bool_enable_only": False,
    "param_ops_bint": False,
    "param_ops_invbool": True,
}


class Module:
    """A module that is loaded, as it is at this stop.

    Args:
        inferior: whose.
        value: its ``struct module``.

    Attributes:
        place: the address of its ``struct module``.
        file: the file with its symbols that was loaded, None without.
    """

    def __init__(self, inferior: Inferior, value: Value, head: Record | None = None) -> None:
        self._inferior = inferior
        self._bare = value
        self._head = head or _head(value.type_)
        self.place: int = value.address_ or 0
        self.file: str | None = None

    def __repr__(self) -> str:
        what = self._inferior.silence  # of a target that runs nothing is asked
        try:
            if what is None:
                return f"<Module {self.name} at {self.address:#x}, {self.size} bytes, {self.state}>"
        except RspError as error:
            what = str(error)
        return f"<Module, its struct at {self.place:#x}: {what}>"

    @cached_property
    def value(self) -> Value:
        """Its ``struct module``."""
        return self._bare.loaded_()

    @property
    def name(self) -> str:
        """Its name, with ``_`` for ``-``."""
        return self._head.text("name", self._front).decode("utf-8", "backslashreplace")

    @property
    def behind(self) -> int:
        """The address of the next one's node in the list of modules."""
        return self._head.number("list.next", self._front)

    @cached_property
    def _front(self) -> bytes:
        """What a walk of the list needs: some 80 of its 1000 bytes."""
        return self._head.read(self._inferior, self.place)

    @property
    def state(self) -> str:
        """``live``, ``coming``, ``going`` or ``unformed`` (enum module_state)."""
        name = self.value["state"].enumerator_() or str(int(self.value["state"]))
        return name.removeprefix(_STATES).lower()

    @property
    def address(self) -> int:
        """Where its code begins, as in /proc/modules."""
        return self.regions[0][0]

    @property
    def size(self) -> int:
        """How many bytes it has in all, as in /proc/modules."""
        return sum(size for _, size, _ in self.regions)

    @property
    def init(self) -> int | None:
        """Where its init function is; None without one."""
        return int(self.value["init"]) or None

    @property
    def initialized(self) -> bool:
        """Whether its init function has returned, and the sections of that are gone."""
        return not any(base for base, _, init in self.regions if init)

    @cached_property
    def sections(self) -> dict[str, int]:
        """The addresses of its sections by name, as in /sys/module/NAME/sections.

        Those of its init function are there as long as that has not returned. ``.data..percpu``,
        which that directory lacks, is an offset into the area of each CPU.

        Raises:
            MemoryFault: they cannot be read.
            SymbolError: the kernel notes none (CONFIG_SYSFS or CONFIG_KALLSYMS is off).
        """
        module = self.value
        if not has_member(module.type_, "sect_attrs") or not int(module["sect_attrs"]):
            raise SymbolError(
                f"the kernel does not note where the sections of {self.name} are; give them to "
                "add_module, from a symbol script"
            )
        found = {
            _text(name): int(address) for name, address in _sections(module["sect_attrs"].deref_())
        }
        if self.initialized:
            found = {name: at for name, at in found.items() if not name.startswith(".init")}
        if has_member(module.type_, "percpu") and (per_cpu := int(module["percpu"])):
            found[_PER_CPU] = per_cpu
        return found

    @cached_property
    def build_id(self) -> bytes | None:
        """What the linker computed of its contents; None where it cannot be read."""
        address = self.sections.get(_BUILD_ID)
        if address is None:
            return None
        try:
            header = read_at(self._inferior, address, _NOTE_HEADER)
            size = int.from_bytes(header[4:8], "little")
            if not 0 < size <= 64 or header[12:15] != b"GNU":
                return None
            return read_at(self._inferior, address + _NOTE_HEADER, size)
        except MemoryFault:
            return None

    @cached_property
    def parameters(self) -> dict[str, str | None]:
        """Its parameters by name, as /sys/module/NAME/parameters prints them.

        None is the value of one that the kernel prints by a function of the module's own, which
        nothing here calls.
        """
        number = int(self.value["num_kp"])
        if not 0 <= number <= MOST:
            raise SymbolError(f"{self.name} has {number} parameters: its memory makes no sense")
        found = {}
        for each in self.value["kp"][0:number]:
            parameter = each.loaded_()
            # Those that modprobe is to read have a prefix; a module's own have not.
            found[_text(parameter["name"]).rpartition(".")[2]] = self._parameter(parameter)
        return found

    def region_of(self, address: int, size: int = 1) -> tuple[int, int] | None:
        """Return begin and end of the part of its memory that has these bytes, None if none has."""
        for base, length, _ in self.regions:
            if base <= address <= address + size <= base + length:
                return base, base + length
        return None

    @cached_property
    def regions(self) -> tuple[tuple[int, int, bool], ...]:
        """Base, size and whether it is of the init function, of each region; the code's first."""
        module = self.value
        if has_member(module.type_, "mem"):  # from 6.4
            kinds = self._inferior.symbols.type("enum mod_mem_type").resolved
            names = kinds.enumerators if isinstance(kinds, Enum) else {}
            init = {number for name, number in names.items() if name.startswith("MOD_INIT_")}
            return tuple(
                (int(each["base"]), int(each["size"]), number in init)
                for number, each in enumerate(module["mem"])
            )
        if has_member(module.type_, "core_layout"):  # from 4.5
            return tuple(
                (int(module[name]["base"]), int(module[name]["size"]), name == "init_layout")
                for name in ("core_layout", "init_layout")
            )
        return (
            (int(module["module_core"]), int(module["core_size"]), False),
            (int(module["module_init"]), int(module["init_size"]), True),
        )

    def _parameter(self, parameter: Value) -> str | None:
        ops = self._inferior.symbols.lookup(int(parameter["ops"]))
        if ops is None or ops.address != int(parameter["ops"]):
            return None
        address = int(parameter["arg"])
        if ops.name == "param_ops_charp":
            word = read_at(self._inferior, address, self.value.space_.word_size)
            at = int.from_bytes(word, "little")
            return self._string(at) if at else "(null)"
        if ops.name == "param_ops_string":
            return self._string(int(parameter["str"]["string"]))
        if ops.name == "param_array_ops":
            return self._array(parameter["arr"].deref_().loaded_())
        return self._scalar(ops.name, address)

    def _array(self, array: Value) -> str | None:
        ops = self._inferior.symbols.lookup(int(array["ops"]))
        number = int(array["max"])
        if int(array["num"]):
            number = int(array["num"].deref_())
        if ops is None or not 0 <= number <= MOST:
            return None
        size, first = int(array["elemsize"]), int(array["elem"])
        parts = [self._scalar(ops.name, first + nth * size) for nth in range(number)]
        if any(part is None for part in parts):
            return None
        return ",".join(part for part in parts if part is not None)

    def _scalar(self, ops: str, address: int) -> str | None:
        if ops in _FLAGS:
            size = 4 if ops == "param_ops_bint" else 1
            value = any(read_at(self._inferior, address, size))
            return "Y" if value != _FLAGS[ops] else "N"
        name = _NUMBERS.get(ops)
        if name is None:
            return None
        size = _SIZES[name.removeprefix("u")] or self.value.space_.word_size
        data = read_at(self._inferior, address, size)
        if name == "hexint":
            return f"{int.from_bytes(data, 'little'):#08x}"
        signed = not name.startswith("u") and name != "byte"
        return str(int.from_bytes(data, "little", signed=signed))

    def _string(self, address: int) -> str:
        return read_string(self._inferior.read_memory, address, _LONGEST).decode(
            "utf-8", "backslashreplace"
        )


def list_modules(inferior: Inferior) -> tuple[Module, ...]:
    """Return the modules that the kernel has in its list, the newest first, as lsmod does.

    Raises:
        SymbolNotFound: the symbols are those of a kernel without modules.
        MemoryFault: the list cannot be read.
        SymbolError: the list makes no sense.
    """
    module = inferior.symbols.type("struct module")
    head = _head(module)
    offset = place_of(module, "list").offset
    anchor = evaluate_at(inferior, "modules", names={})
    node = int(anchor["next"])
    seen: set[int] = set()
    found = []
    while node != anchor.address_:
        if not node or node in seen or len(seen) >= MOST:
            raise SymbolError(
                f"the list of modules makes no sense at {node:#x}: it is not set up yet, or being "
                "changed"
            )
        seen.add(node)
        each = Module(inferior, Value(anchor.space_, module, address=node - offset), head)
        found.append(each)
        node = each.behind
    return tuple(found)


def module_at(inferior: Inferior, address: int) -> Module | None:
    """Return the module that has an address in its memory, by the tree that `has_tree` tells of.

    Raises:
        MemoryFault: that cannot be read.
        SymbolError: it makes no sense.
    """
    symbols = inferior.symbols
    memory = _memory(inferior)
    assert memory is not None
    record = Record(memory, "base", "size", "mtn.mod", "mtn.node.node")
    node = symbols.type("struct rb_node")
    left, right = (place_of(node, name) for name in ("rb_left", "rb_right"))
    copies = evaluate_at(inferior, "mod_tree", names={})["root"]["tree"]
    # While it is being changed, one of two copies of the tree is as it should be.
    for copy in range(2):
        at = int(copies[copy]["rb_node"])
        offset = record.places["mtn.node.node"].offset + copy * (node.size or 0)
        for _ in range(_DEEPEST):
            if not at:
                break
            data = record.read(inferior, at - offset)
            base, size = record.number("base", data), record.number("size", data)
            if base <= address < base + size:
                place = record.number("mtn.mod", data)
                found = Value(copies.space_, symbols.type("struct module"), address=place)
                module = Module(inferior, found)
                if module.region_of(address) is None:
                    raise SymbolError(f"the tree of modules makes no sense at {at:#x}")
                return module
            at = (left if address < base else right).number(data, offset - record.begin)
    return None


def has_tree(inferior: Inferior) -> bool:
    """Return whether the kernel has a tree of the memory of its modules, for `module_at`.

    It is there from 4.2 on, with CONFIG_MODULES_TREE_LOOKUP, and shorter to read than the list.
    """
    return (
        "mod_tree" in inferior.symbols
        and has_member(evaluate_at(inferior, "mod_tree", names={}).type_, "root")
        and (memory := _memory(inferior)) is not None
        and has_member(memory, "mtn.node")
    )


def has_modules(inferior: Inferior) -> bool:
    """Return whether the kernel can have modules at all."""
    return "modules" in inferior.symbols and "do_init_module" in inferior.symbols


def _memory(inferior: Inferior) -> Type | None:
    """Return the type of what tells of a part of a module's memory."""
    module = inferior.symbols.type("struct module")
    for member, name in _MEMORY.items():
        if has_member(module, member):
            return inferior.symbols.type(name)
    return None


def _head(module: Type) -> Record:
    return Record(module, "list.next", "name")


def _sections(attributes: Value) -> Iterator[tuple[Value, Value]]:
    """Yield name and address of each section, in whichever structure the kernel keeps them."""
    element = attributes["attrs"][0].type_
    if has_member(attributes.type_, "nsections"):
        number = int(attributes["nsections"])
        if not 0 <= number <= MOST:
            raise SymbolError(f"a module with {number} sections: its memory makes no sense")
        # ``battr`` from 5.8, a pointer to the name before.
        name = "battr.attr.name" if has_member(element, "battr") else "name"
        for nth in range(number):
            each = attributes["attrs"][nth].loaded_()
            yield _at(each, name), each["address"]
        return
    # From 6.14: a list of pointers with an end, and the address where each one's own data is.
    group = attributes["grp"]
    names = ("bin_attrs_new", "bin_attrs")
    pointers = next(group[name] for name in names if has_member(group.type_, name))
    for nth in islice(count(), MOST):
        pointer = pointers[nth]
        if not int(pointer):
            return
        each = pointer.deref_().loaded_()
        yield _at(each, "attr.name"), each["private"]
    raise SymbolError("a module whose list of sections has no end: its memory makes no sense")


def _at(value: Value, path: str) -> Value:
    for name in path.split("."):
        value = value[name]
    return value


def _text(pointer: Value) -> str:
    return pointer.string_(_NAME * 4).decode("utf-8", "backslashreplace")
