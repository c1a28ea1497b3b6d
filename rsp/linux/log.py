"""The kernel's log, read from its ring buffer.

Contents: the three forms that it has had (Linux kernel/printk/): a ring of descriptors since 5.10
(printk_ringbuffer.h), a ring of records since 3.5 (``struct printk_log``, at first ``struct log``),
and plain text before. Which one it is, is asked of the kernel's symbols and types. Nothing of it is
trusted: it may have been stopped in the middle of writing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from rsp.errors import SymbolError, SymbolNotFound
from rsp.inferior.evaluation import evaluate_at
from rsp.linux.records import Place, has_member, place_of, read_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rsp.inferior.inferior import Inferior
    from rsp.symbols.types.types import Type
    from rsp.values.value import Value

LARGEST: Final = 1 << 26
"""The largest ring in bytes that is believed; CONFIG_LOG_BUF_SHIFT is at most 25."""

# printk_ringbuffer.h: the two highest bits of a descriptor's state, and positions without data.
_COMMITTED, _FINALIZED = 1, 2
_DATALESS: Final = 1

# printk.c, enum log_flags.
_NEWLINE, _PREFIX, _CONTINUED = 2, 4, 8
_LEVELS: Final = 8
_CPU: Final = 1 << 31
_OLD_LINE: Final = re.compile(rb"<(\d+)>(?:\[ *(\d+)\.(\d{6})\] )?(.*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRecord:
    r"""A message of the kernel; ``str()`` is what ``dmesg`` prints of it.

    Attributes:
        sequence: its number since the boot; None where the ring does not count.
        nanoseconds: when it was logged, by the kernel's own clock; None where it does not say.
        level: 0 (emergency) to 7 (debug).
        facility: 0 for the kernel itself, else as in syslog(3).
        text: the message, without a newline at its end.
        caller: who logged it, ``T123`` for a task and ``C1`` for a CPU; None where that is not
            noted. Only kernels with CONFIG_PRINTK_CALLER print it.

    >>> print(LogRecord(level=6, facility=0, text="hello\nworld", nanoseconds=1_500_000_000))
    [    1.500000] hello
    [    1.500000] world
    """

    level: int
    facility: int
    text: str
    nanoseconds: int | None = None
    sequence: int | None = None
    caller: str | None = None

    @property
    def time(self) -> float | None:
        """Seconds since the kernel's clock began."""
        return None if self.nanoseconds is None else self.nanoseconds / 1e9

    def __str__(self) -> str:
        prefix = ""
        if self.nanoseconds is not None:
            seconds, rest = divmod(self.nanoseconds, 1_000_000_000)
            prefix = f"[{seconds:5}.{rest // 1000:06}] "
        return "\n".join(prefix + line for line in self.text.split("\n"))


def read_log(inferior: Inferior) -> tuple[LogRecord, ...]:
    """Return the messages that the kernel's ring buffer holds, the oldest first.

    Raises:
        SymbolNotFound: the symbols have no ring buffer of a known form.
        SymbolError: what is in memory is none: not initialized yet, or overwritten.
        MemoryFault: it cannot be read.
    """
    symbols = inferior.symbols
    if "prb" in symbols:
        return tuple(_Ring(inferior).records())
    if "log_first_idx" in symbols:
        records = _old_records(inferior)
        # Until 4.8 a line that was logged in pieces is put together when it is read.
        if "syslog_prev" in symbols:
            return tuple(_joined(records))
        return tuple(record for _, record in records)
    if "log_end" in symbols:
        return tuple(_lines(inferior))
    raise SymbolNotFound(
        f"{symbols.path} has none of prb, log_first_idx and log_end, and so no log of a known form",
        name="prb",
    )


class _Ring:
    """The ring of descriptors since 5.10: descriptors, infos, and a ring of text."""

    def __init__(self, inferior: Inferior) -> None:
        self._inferior = inferior
        ring = _variable(inferior, "*prb").loaded_()
        descriptors, text = ring["desc_ring"], ring["text_data_ring"]
        self._word = ring.space_.word_size
        self._count = _size(int(descriptors["count_bits"]))
        self._text_size = _size(int(text["size_bits"]))
        self._descs = descriptors["descs"].deref_()
        self._infos = descriptors["infos"].deref_()
        self._ids = (1 << 8 * self._word - 2) - 1
        self._tail = int(descriptors["tail_id"]["counter"]) & self._ids
        self._head = int(descriptors["head_id"]["counter"]) & self._ids
        self._data = int(text["data"])
        first = int(text["tail_lpos"]["counter"]), int(text["head_lpos"]["counter"])
        self._text = self._read_text(*(position & (1 << 8 * self._word) - 1 for position in first))

    def records(self) -> Iterator[LogRecord]:
        count = min((self._head - self._tail & self._ids) + 1, self._count)
        descs = self._slice(self._descs.type_, self._descs.address_, count)
        infos = self._slice(self._infos.type_, self._infos.address_, count)
        desc, info = self._descs.type_, self._infos.type_
        state, begin, end = (
            place_of(desc, path)
            for path in ("state_var.counter", "text_blk_lpos.begin", "text_blk_lpos.next")
        )
        number = {
            name: place_of(info, name)
            for name in ("seq", "ts_nsec", "text_len", "facility", "level", "caller_id")
            if has_member(info, name)
        }
        desc_size, info_size = desc.size or 0, info.size or 0
        for nth in range(count):
            word = state.number(descs, nth * desc_size) & (1 << 8 * self._word) - 1
            if word & self._ids != (self._tail + nth) & self._ids:
                continue
            if word >> 8 * self._word - 2 not in (_COMMITTED, _FINALIZED):
                continue
            block = self._block(
                begin.number(descs, nth * desc_size), end.number(descs, nth * desc_size)
            )
            if block is None:
                continue
            of = {name: place.number(infos, nth * info_size) for name, place in number.items()}
            yield LogRecord(
                sequence=of["seq"],
                nanoseconds=of["ts_nsec"],
                level=of["level"] % _LEVELS,
                facility=of["facility"],
                text=_decoded(block[: of["text_len"]]),
                caller=_caller(of.get("caller_id")),
            )

    def _block(self, begin: int, end: int) -> bytes | None:
        """Return the text between two positions; None where the writer could not get the room."""
        if begin & _DATALESS and end & _DATALESS:
            # NO_LPOS, 3, later EMPTY_LINE_LPOS; or FAILED_LPOS, 1, where there was no room.
            return b"" if begin == end and begin & 2 else None
        size = self._text_size
        first, last = begin % size, (end - 1) % size + 1
        if begin // size != (end - 1) // size:
            first = 0  # a block is never split: it begins anew
        if not first + self._word <= last:
            return None
        return self._text[first + self._word : last]

    def _slice(self, ctype: Type, address: int | None, count: int) -> bytes:
        """Return the elements of a ring from the tail on."""
        size = ctype.size
        if address is None or not size or size * count > LARGEST:
            raise _lost()
        first = self._tail % self._count
        ahead = min(count, self._count - first)
        data = read_at(self._inferior, address + first * size, ahead * size)
        return data + read_at(self._inferior, address, (count - ahead) * size)

    def _read_text(self, tail: int, head: int) -> bytes:
        """Return the ring of text; what is not in use in it is 0."""
        size = self._text_size
        text = bytearray(size)
        used = min(head - tail & (1 << 8 * self._word) - 1, size)
        first = tail % size
        for begin, end in ((first, min(first + used, size)), (0, first + used - size)):
            if begin < end:
                text[begin:end] = read_at(self._inferior, self._data + begin, end - begin)
        return bytes(text)


def _old_records(inferior: Inferior) -> Iterator[tuple[int, LogRecord]]:
    """Yield the flags and the records of the ring that 3.5 to 5.9 have."""
    symbols = inferior.symbols
    try:
        header = symbols.type("struct printk_log")
    except SymbolNotFound:
        header = symbols.type("struct log")
    names = ("ts_nsec", "len", "text_len", "facility", "flags", "level", "caller_id")
    place: dict[str, Place] = {
        name: place_of(header, name) for name in names if has_member(header, name)
    }
    size, length = header.size or 0, int(_variable(inferior, "log_buf_len"))
    ring = read_at(inferior, int(_variable(inferior, "log_buf")), _bounded(length))
    at, end = (int(_variable(inferior, f"log_{each}_idx")) for each in ("first", "next"))
    for _ in range(length // max(size, 1) + 1):
        if at == end:
            return
        if not 0 <= at <= length - size:
            break
        of = {name: each.number(ring, at) for name, each in place.items()}
        if of["len"] == 0:  # it goes on at the beginning
            at = 0
            continue
        yield (
            of.get("flags", _NEWLINE | _PREFIX),  # 3.5 has none, and the facility in the level
            LogRecord(
                nanoseconds=of["ts_nsec"],
                level=of["level"] % _LEVELS,
                facility=of.get("facility", of["level"] // _LEVELS),
                text=_decoded(ring[at + size : at + size + of["text_len"]]),
                caller=_caller(of.get("caller_id")),
            ),
        )
        at += of["len"]
    raise _lost()


def _joined(records: Iterator[tuple[int, LogRecord]]) -> Iterator[LogRecord]:
    """Put the parts of lines together that were logged in pieces (msg_print_text)."""
    last: LogRecord | None = None
    before = _NEWLINE
    for flags, record in records:
        goes_on = before & _CONTINUED and not before & _NEWLINE
        if last is not None and goes_on and (flags & _CONTINUED or not flags & _PREFIX):
            last = replace(last, text=last.text + record.text)
        else:
            if last is not None:
                yield last
            last = record
        before = flags
    if last is not None:
        yield last


def _lines(inferior: Inferior) -> Iterator[LogRecord]:
    """Yield the messages of the ring of plain text that kernels before 3.5 have."""
    length = _bounded(int(_variable(inferior, "log_buf_len")))
    ring = read_at(inferior, int(_variable(inferior, "log_buf")), length)
    end = int(_variable(inferior, "log_end")) % (1 << 32)
    used = end
    if "logged_chars" in inferior.symbols:
        used = int(_variable(inferior, "logged_chars"))
    used = max(0, min(used, length, end))
    first = (end - used) % length
    text = (ring[first:] + ring[:first])[:used]
    for line in text.split(b"\n"):
        found = _OLD_LINE.fullmatch(line)
        if found is not None:
            priority, seconds, micros, message = found.groups()
            yield LogRecord(
                level=int(priority) % _LEVELS,
                facility=int(priority) // _LEVELS,
                nanoseconds=(int(seconds) * 1_000_000 + int(micros)) * 1000 if seconds else None,
                text=_decoded(message),
            )
        elif line:  # the first one may be cut off
            yield LogRecord(level=4, facility=0, text=_decoded(line))


def _caller(number: int | None) -> str | None:
    if number is None:
        return None
    return f"C{number & ~_CPU}" if number & _CPU else f"T{number}"


def _decoded(text: bytes) -> str:
    return text.decode("utf-8", "backslashreplace").removesuffix("\n")


def _size(bits: int) -> int:
    return 1 << bits if 0 < bits < LARGEST.bit_length() else _bounded(-1)


def _bounded(length: int) -> int:
    if not 0 < length <= LARGEST:
        raise _lost()
    return length


def _lost() -> SymbolError:
    return SymbolError("the log's ring buffer makes no sense: it is not set up yet, or overwritten")


def _variable(inferior: Inferior, name: str) -> Value:
    """Return a variable of the kernel, whatever the code that has stopped calls so."""
    return evaluate_at(inferior, name, names={})
