"""What callers give that cannot be meant: one error of ours, that says what is taken."""

from __future__ import annotations

import array
import math
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest

import rsp
from rsp import arguments
from rsp.errors import ArgumentError

if TYPE_CHECKING:
    from pathlib import Path


class Colour(Enum):
    DARK_RED = "deep red"
    BLUE = "blue"


class Index:
    def __index__(self) -> int:
        return 16


@pytest.mark.parametrize(
    "given", [Colour.DARK_RED, "DARK_RED", "dark_red", "Dark-Red", "deep red", " DEEP RED "]
)
def test_a_member_is_meant_by_its_name_and_its_value(given: object) -> None:
    assert arguments.member(Colour, given, "colour") is Colour.DARK_RED


@pytest.mark.parametrize("given", ["red", "", None, 1, rsp.Watch.READ, Colour, b"blue"])
def test_what_is_no_member(given: object) -> None:
    with pytest.raises(
        ArgumentError,
        match=r"^colour is .*: give one of Colour\.DARK_RED, Colour\.BLUE, or its name$",
    ):
        arguments.member(Colour, given, "colour")


def test_the_error_is_one_of_ours_and_of_pythons() -> None:
    for kind in (rsp.RspError, rsp.LocalProtocolError, TypeError, ValueError):
        with pytest.raises(kind, match=r"^length is 1.5: give a number of bytes$"):
            arguments.integer(1.5, "length", "a number of bytes")


def test_whole_numbers() -> None:
    assert arguments.integer(16, "n") == arguments.integer(Index(), "n") == 16
    assert type(arguments.integer(Index(), "n")) is int
    given: object
    for given in (True, 1.0, "16", b"\x10", None, Decimal(16), [], int):
        with pytest.raises(ArgumentError, match=r"^n is .*: give a whole number$"):
            arguments.integer(given, "n")
    with pytest.raises(ArgumentError, match=r"^n is -1, not within 64 bits: give a whole"):
        arguments.integer(-1, "n")
    with pytest.raises(ArgumentError, match="n is 5: give bytes from 1 to 4"):
        arguments.integer(5, "n", "bytes", lowest=1, below=5)


def test_seconds() -> None:
    assert arguments.seconds(Fraction(1, 2), "timeout") == 0.5
    assert arguments.timeout(0) == 0
    assert arguments.timeout(None) is None
    large: object
    given: object
    for large in (math.inf, 10**400, 1e300, Fraction(10**400)):
        assert arguments.timeout(large) == arguments.seconds(large, "timeout") == 1e9
    for given in (-1, -0.5, math.nan, -math.inf, -(10**400), True, "5", b"5", [], 1j):
        with pytest.raises(ArgumentError, match=r"^timeout is .* seconds from 0, or None for ever"):
            arguments.timeout(given)
        with pytest.raises(ArgumentError, match=r"^timeout is .* a number of seconds above 0"):
            arguments.seconds(given, "timeout")
    for given in (0, None):
        with pytest.raises(ArgumentError):
            arguments.seconds(given, "timeout")


def test_bytes_flags_and_text() -> None:
    given: object
    for given in (b"ab", bytearray(b"ab"), memoryview(b"ab"), array.array("H", [0x6261])):
        assert arguments.data(given, "data") == b"ab"
    for given in ("ab", 2, None, [1, 2], 1.5):
        with pytest.raises(ArgumentError, match=r"^data is .*: give bytes$"):
            arguments.data(given, "data")
    assert arguments.flag(False, "physical") is False
    for given in (1, 0, "no", None):
        with pytest.raises(ArgumentError, match=r"^physical is .*: give True or False$"):
            arguments.flag(given, "physical")
    with pytest.raises(ArgumentError, match=r"^name is b'rax': give text$"):
        arguments.text(b"rax", "name")


def test_a_long_value_is_shown_in_part() -> None:
    for given in ("x" * 10000, b"x" * 10000, 10**10000, -(10**10000), ["x"] * 10000):
        with pytest.raises(ArgumentError) as caught:
            arguments.integer(given, "n")
        assert len(str(caught.value)) < 250
    with pytest.raises(ArgumentError, match=r"timeout is a number beyond all that is taken"):
        arguments.timeout(-(10**10000))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"address": 1234}, "1234 is no address to connect to: it is no text. The forms are: "),
        ({"address": None}, "None is no address to connect to"),
        ({"address": b":1234"}, "b':1234' is no address"),
        ({"timeout": -1}, "timeout is -1: give a number of seconds above 0"),
        ({"timeout": "5"}, "timeout is '5': "),
        ({"timeout": None}, "timeout is None: "),
        ({"on_exit": "foo"}, "on_exit is 'foo': give one of OnExit.DETACH, OnExit.LEAVE_STOPPED"),
        ({"on_exit": rsp.Watch.READ}, "on_exit is <Watch.READ: 'read'>: "),
        ({"slide": "x"}, "slide is 'x': give \"auto\" or a distance"),
        ({"slide": 1.5}, "slide is 1.5: "),
        ({"slide": None}, "slide is None: "),
        ({"modules": "/nope/x"}, "modules: /nope/x does not exist"),
        ({"modules": __file__}, f"modules: {__file__} is no directory"),
        ({"modules": 5}, "modules is 5: give the path of a directory"),
        ({"interrupt": 3}, 'interrupt is 3: give True, False, "ctrl-c" or the monitor\'s address'),
        ({"interrupt": "nope"}, "'nope' is no address"),
        ({"record": 5}, "record is 5: give a path"),
        ({"symbols": 5}, "path is 5: give a path"),
        ({"symbols": "/nope/x"}, "/nope/x: cannot be read"),
    ],
)
def test_connect_opens_nothing_for_what_cannot_be_meant(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    options = {"address": f"| touch {tmp_path / 'opened'}", "timeout": 5.0, **options}
    with pytest.raises(rsp.RspError) as caught:
        rsp.connect(options.pop("address"), **options)
    assert message in str(caught.value)
    assert not (tmp_path / "opened").exists()
