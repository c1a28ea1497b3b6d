"""What callers give: checked where it comes in, before anything is done with it.

Contents: one function for each kind of argument; each returns the value that is meant, or raises
the one `ArgumentError` of the library, whose message says what is taken. Not here: what only a
target or a file can tell (whether there is such a name, such memory).
"""

from __future__ import annotations

import os
from contextlib import suppress
from enum import Enum
from math import inf, isfinite, nan
from operator import index
from typing import Any, Final, TypeVar

from rsp.errors import ArgumentError

_E = TypeVar("_E", bound=Enum)

END: Final = 1 << 64
"""The end of the address space."""
_FOR_EVER: Final = 1e9
"""Seconds, which are 30 years: what a system call takes, and more than anybody waits."""
_SHOWN: Final = 100


def shown(given: object) -> str:
    """Return a value as an error message shows it: its type where that says more."""
    if type(given) is int and given.bit_length() > _SHOWN:
        return "a number beyond all that is taken"  # and which Python may refuse to print
    if given is None or isinstance(given, bool | int | float | str | bytes | Enum):
        text = repr(given)
        return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
    return f"an object of type {type(given).__name__}"


def refused(what: str, given: object, taken: str) -> ArgumentError:
    """Return the error: which argument, what was given, and what is taken."""
    return ArgumentError(f"{what} is {shown(given)}: give {taken}")


def member(kind: type[_E], given: object, what: str) -> _E:
    """Return the member of an enumeration that is meant: itself, or its name or value as text.

    >>> from rsp.arch.modes import CpuMode
    >>> member(CpuMode, "long64", "mode")
    <CpuMode.LONG64: '64-bit mode'>

    Raises:
        ArgumentError: it is none.
    """
    if isinstance(given, kind):
        return given
    if isinstance(given, str):
        wanted = _folded(given)
        for each in kind:
            if wanted == _folded(each.name) or wanted == _folded(str(each.value)):
                return each
    raise refused(what, given, f"one of {', '.join(map(str, kind))}, or its name")


def _folded(text: str) -> str:
    return text.strip().casefold().replace("_", " ").replace("-", " ")


def integer(
    given: object,
    what: str,
    taken: str = "a whole number",
    *,
    lowest: int | None = 0,
    below: int | None = END,
) -> int:
    """Return a whole number: an int, or what stands for one (``__index__``); no bool.

    Args:
        given: what the caller gave.
        what: the argument's name.
        taken: what is taken, for the message.
        lowest: the least that is taken, None for any.
        below: what is greater than all that is taken, None for any.

    Raises:
        ArgumentError: it is none, or not in the range.
    """
    if isinstance(given, bool):
        raise refused(what, given, taken)
    try:
        number = index(given)  # type: ignore[arg-type]
    except TypeError:
        raise refused(what, given, taken) from None
    low = lowest is not None and number < lowest
    if low or (below is not None and number >= below):
        if (lowest, below) == (0, END):
            raise ArgumentError(f"{what} is {shown(number)}, not within 64 bits: give {taken}")
        least = "" if lowest is None else f" from {_bound(lowest)}"
        most = "" if below is None else f" to {_bound(below - 1)}"
        raise refused(what, number, f"{taken}{least}{most}")
    return number


def _bound(number: int) -> str:
    return str(number) if abs(number) < 1 << 20 else f"{number:#x}"


def seconds(given: object, what: str) -> float:
    """Return a number of seconds above 0; infinity is 30 years.

    Raises:
        ArgumentError: it is none.
    """
    number = _float(given)
    if not number > 0:  # which no NaN is
        raise refused(what, given, "a number of seconds above 0")
    return min(number, _FOR_EVER)


def timeout(given: object) -> float | None:
    """Return how many seconds to wait at most, from 0; None is for ever.

    Raises:
        ArgumentError: it is no number of seconds.
    """
    if given is None:
        return None
    number = _float(given)
    if not number >= 0:
        raise refused("timeout", given, "a number of seconds from 0, or None for ever")
    return min(number, _FOR_EVER)


def time(given: object, what: str = "now") -> float:
    """Return a point in time, in seconds from any that is the same for all.

    Raises:
        ArgumentError: it is no number.
    """
    number = given if type(given) is float else _float(given)  # most are, and there are many
    if not isfinite(number):
        raise refused(what, given, "the time in seconds, of one clock")
    return number


def _float(given: object) -> float:
    """Return a number; NaN for what is none."""
    # Texts and bytes, which float() reads, have neither.
    if isinstance(given, bool) or not (hasattr(given, "__float__") or hasattr(given, "__index__")):
        return nan
    number: Any = given
    try:
        return float(number)
    except OverflowError:  # an int or a fraction, of any size
        return inf if number > 0 else -inf
    except TypeError:
        return nan


def text(given: object, what: str, taken: str = "text") -> str:
    """Return a str; bytes are none.

    Raises:
        ArgumentError: it is none.
    """
    if not isinstance(given, str):
        raise refused(what, given, taken)
    return given


def function(given: object, what: str) -> None:
    """Refuse what is neither a function nor None.

    Raises:
        ArgumentError: it is neither.
    """
    if given is not None and not callable(given):
        raise refused(what, given, "a function, or None")


def path(given: object, what: str, taken: str = "a path") -> str:
    """Return the path of a file, as text.

    Raises:
        ArgumentError: it is no path.
    """
    found = os.fspath(given) if isinstance(given, os.PathLike) else given
    return word(found, what, taken)


def word(given: object, what: str, taken: str = "a word for the command line") -> str:
    """Return a text that the operating system takes, which is not empty.

    Raises:
        ArgumentError: it is none.
    """
    if isinstance(given, str) and given and "\0" not in given:
        with suppress(UnicodeEncodeError):
            os.fsencode(given)
            return given
    raise refused(what, given, taken)


def directory(given: object, what: str) -> str:
    """Return the path of a directory that is there.

    Raises:
        ArgumentError: it is none, or there is none.
    """
    found = path(given, what, "the path of a directory")
    if not os.path.isdir(found):  # noqa: PTH112 - pathlib refuses some names
        why = "is no directory" if os.path.exists(found) else "does not exist"  # noqa: PTH110
        raise ArgumentError(f"{what}: {found} {why}")
    return found


def flag(given: object, what: str) -> bool:
    """Return True or False; nothing else is taken for one of them.

    Raises:
        ArgumentError: it is neither.
    """
    if not isinstance(given, bool):
        raise refused(what, given, "True or False")
    return given


def data(given: object, what: str) -> bytes:
    """Return bytes: what is bytes, or has them in one piece of memory (bytearray, array).

    Raises:
        ArgumentError: it is none.
    """
    if isinstance(given, bytes):
        return given
    try:
        return memoryview(given).tobytes()  # type: ignore[arg-type]
    except (TypeError, NotImplementedError, BufferError):
        raise refused(what, given, "bytes") from None
