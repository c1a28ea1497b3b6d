"""Value does what a frozen, slotted, keyword-only dataclass does; the dataclass is the oracle."""

from __future__ import annotations

import copy
import inspect
import pickle
from dataclasses import dataclass

import pytest

from rsp.wire import commands
from rsp.wire.commands import Detach, ReadMemory, ReverseStep, XferRead
from rsp.wire.value import Value


class Point(Value):
    x: int
    y: int = 7


class Point3(Point):
    z: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DataPoint:
    x: int
    y: int = 7


def test_fields_defaults_and_repr() -> None:
    assert Point(x=1).y == 7
    assert repr(Point(x=1)) == repr(DataPoint(x=1)).replace("Data", "")
    assert repr(ReadMemory(address=0x1000, length=64)) == "ReadMemory(address=0x1000, length=64)"
    assert repr(ReverseStep()) == "ReverseStep()"


def test_a_subclass_has_the_fields_of_its_base_too() -> None:
    Point(x=1)  # makes Point's constructor, which Point3 must not inherit
    point = Point3(x=1, z=3)
    assert (point.x, point.y, point.z) == (1, 7, 3)
    assert point != Point(x=1)


def test_equality_and_hash() -> None:
    assert Point(x=1) == Point(x=1, y=7)
    assert hash(Point(x=1)) == hash(Point(x=1))
    assert Point(x=1) != Point(x=2)
    assert Point(x=1) != DataPoint(x=1)
    assert commands.ReadRegisters() != commands.ReverseStep()
    assert len({Detach(), Detach(process=1), Detach(process=1)}) == 2


@pytest.mark.parametrize("cls", [Point, DataPoint])
def test_it_is_frozen(cls: type[Point | DataPoint]) -> None:
    point = cls(x=1)
    with pytest.raises((AttributeError, TypeError)):
        point.x = 2  # type: ignore[misc]  # that is the point
    with pytest.raises((AttributeError, TypeError)):
        del point.x
    with pytest.raises((AttributeError, TypeError)):
        point.other = 2  # type: ignore[union-attr]
    assert not hasattr(point, "__dict__")


def test_constructor_refuses_what_a_keyword_only_one_refuses() -> None:
    for _ in range(2):  # before and after the constructor has been made
        with pytest.raises(TypeError, match="length"):
            ReadMemory(address=1)  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="positional"):
            ReadMemory(1, 2)  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="size"):
            ReadMemory(address=1, length=2, size=3)  # type: ignore[call-arg]


def test_signature_is_shown() -> None:
    assert str(inspect.signature(XferRead)) == "(*, object, annex='', offset, length)"


def test_copy_and_pickle() -> None:
    point = Point3(x=1, z=3)
    assert copy.copy(point) == point
    assert copy.deepcopy(point) == point
    command = XferRead(object="features", annex="target.xml", offset=0, length=1)
    assert pickle.loads(pickle.dumps(command)) == command


def test_class_patterns_match_by_name() -> None:
    match ReadMemory(address=5, length=600):
        case ReadMemory(length=length) if length > 512:
            assert length == 600
        case _:
            pytest.fail("no match")
