"""The names that users import: one list in three places, and nothing is left out of it."""

from __future__ import annotations

import ast
import inspect
import sys
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import pytest

import rsp
import rsp.linux

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

# What is public in Python for the rooms above, and not for users: by class, the attributes.
INTERNAL = {
    "Position": {
        *("bounds", "call", "frames", "key", "row", "row_at"),
    },  # what stepping asks
    "Register": {"kind", "role"},  # the rows of the tables of rsp.arch
    "SubRegister": {"parts"},
    "SymbolTable": {"binaries", "binary_at", "unwind_rules"},  # what unwinds and evaluates
    "Core": {"inferior"},
    "Debuggee": {"inferior"},  # what the other rooms read from
    "Target": {"inferior"},
    "Thread": {"target"},  # a Target, as far as a thread asks it
    "Value": {"space_"},
}


def imported_for_type_checkers(module: ModuleType) -> set[str]:
    """Return the names that a package imports from the project for type checkers only."""
    return {
        alias.asname or alias.name
        for block in blocks_for_type_checkers(module)
        for statement in block.body
        if isinstance(statement, ast.ImportFrom) and str(statement.module).startswith("rsp")
        for alias in statement.names
    }


def blocks_for_type_checkers(module: ModuleType) -> list[ast.If]:
    tree = ast.parse(inspect.getsource(module))
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]


def test_the_lists_of_names_agree() -> None:
    errors = {name for name, value in vars(sys.modules["rsp.errors"]).items() if is_error(value)}
    lazy = {name for names in rsp._HOMES.values() for name in names}
    public = {name for name in imported_for_type_checkers(rsp) if not name.startswith("_")}
    assert public == lazy | {"linux"}
    assert set(rsp.__all__) == lazy | errors | {"linux", "connect", "open_core"}


def test_the_lists_of_names_of_linux_agree() -> None:
    assert imported_for_type_checkers(rsp.linux) == set(rsp.linux.__all__)
    assert set(rsp.linux._HOMES) == set(rsp.linux.__all__)


def is_error(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, rsp.RspError)


@pytest.mark.parametrize("module", [rsp, rsp.linux], ids=lambda module: module.__name__)
def test_dir_is_the_public_names(module: ModuleType) -> None:
    assert dir(module) == sorted(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None


@pytest.mark.parametrize("module", [rsp, rsp.linux], ids=lambda module: module.__name__)
def test_a_name_that_is_not_there(module: ModuleType) -> None:
    with pytest.raises(AttributeError, match="no attribute 'BreakpointKnd'"):
        _ = module.BreakpointKnd


class Annotation(NamedTuple):
    """What a public attribute is, or what a public method returns."""

    owner: str
    name: str
    expression: ast.expr


def annotations_of(cls: type) -> Iterator[Annotation]:
    tree = ast.parse(inspect.getsource(sys.modules[cls.__module__]))
    (definition,) = (
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and node.name == cls.__name__
    )
    found: list[tuple[str, ast.expr | None]] = []
    for node in definition.body:
        match node:
            case ast.AnnAssign(target=ast.Name(id=name)):
                found.append((name, node.annotation))
            case ast.FunctionDef(name="__init__"):
                found += attributes_set_by(node)
            case ast.FunctionDef(name=name):
                found.append((name, node.returns))
    for name, expression in found:
        special = name in ("__getitem__", "__iter__")
        if expression is not None and (special or not name.startswith("_")):
            yield Annotation(cls.__name__, name, expression)


def attributes_set_by(init: ast.FunctionDef) -> Iterator[tuple[str, ast.expr | None]]:
    arguments = {each.arg: each.annotation for each in (*init.args.args, *init.args.kwonlyargs)}
    for node in ast.walk(init):
        match node:
            case ast.AnnAssign(target=ast.Attribute(value=ast.Name(id="self"), attr=name)):
                yield name, node.annotation
            case ast.Assign(
                targets=[ast.Attribute(value=ast.Name(id="self"), attr=name)],
                value=ast.Name(id=argument),
            ):
                yield name, arguments.get(argument)


def namespace_of(cls: type) -> dict[str, Any]:
    """Return what the annotations of a class may name."""
    module = sys.modules[cls.__module__]
    names = {**vars(module), "Self": cls}
    for block in blocks_for_type_checkers(module):
        for statement in block.body:
            if isinstance(statement, ast.ImportFrom) and statement.module != "_typeshed":
                exec(ast.unparse(statement), names)
    return names


def classes_in(annotation: object) -> Iterator[type]:
    if isinstance(annotation, type) and not get_args(annotation):
        yield annotation
    for part in get_args(annotation):
        for each in part if isinstance(part, list) else [part]:
            yield from classes_in(each)


def all_public() -> dict[type, str]:
    """Return the classes that users can name, and how."""
    found: dict[type, str] = {}
    for module in (rsp, rsp.linux, rsp.commands, rsp.replies, rsp.stops, rsp.types):
        for name in getattr(module, "__all__", vars(module)):
            value = getattr(module, name)
            if not isinstance(value, type) or name.startswith("_"):
                continue
            if hasattr(module, "__all__") or value.__module__ == module.__name__:
                found.setdefault(value, f"{module.__name__}.{name}")
    return found


def test_what_public_attributes_return_can_be_named() -> None:
    public = all_public()
    walked, missing, excused = 0, set(), set()
    of_modules = {value for value, name in public.items() if name.count(".") == 1}
    of_modules |= {getattr(rsp.linux, name) for name in rsp.linux.__all__}
    for cls in {base for each in of_modules for base in each.__mro__}:
        if not cls.__module__.startswith("rsp."):
            continue
        names = namespace_of(cls)
        for owner, name, expression in annotations_of(cls):
            walked += 1
            for each in classes_in(eval(ast.unparse(expression), names)):
                if not each.__module__.startswith("rsp.") or each in public:
                    continue
                if name in INTERNAL.get(owner, ()):
                    excused.add((owner, name))
                else:
                    missing.add(f"{each.__module__}.{each.__name__}, of {owner}.{name}")
    assert not missing
    needed = {(owner, name) for owner, names in INTERNAL.items() for name in names}
    assert needed == excused, "an exception that nothing needs"
    assert walked > 300
