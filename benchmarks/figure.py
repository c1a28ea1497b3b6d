"""A measured figure, and how it is shown."""

from __future__ import annotations

import os
import statistics
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measurement.

    Attributes:
        subject: what was measured.
        value: the median.
        unit: what it counts; "x" for a ratio.
        target: what is to be reached, as text.
        detail: the absolute numbers behind it.
    """

    subject: str
    value: float
    unit: str
    target: str
    detail: str = ""

    def __str__(self) -> str:
        value = f"{self.value:.2f} {self.unit}"
        return f"{self.subject:<52} {value:>14}   target {self.target:<16} {self.detail}"


@contextmanager
def apart(pid: int) -> Iterator[None]:
    """Keep another process, and this one with its children, on a processor each.

    On a machine of two processors Linux likes to wake the stub on the client's processor and to
    leave it there while the other idles, for as long as it stays busy; which of the two states a
    run meets is chance. All peers are measured under the same rule.
    """
    processors = sorted(os.sched_getaffinity(0))
    if len(processors) > 1:
        for task in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), {processors[0]})
        os.sched_setaffinity(0, set(processors[1:]))
    try:
        yield
    finally:
        os.sched_setaffinity(0, processors)


def interleaved(rounds: int, *subjects: Callable[[], _T]) -> list[list[_T]]:
    """Run the subjects in turn, so that a busy moment of the machine meets them all."""
    results: list[list[_T]] = [[] for _ in subjects]
    for _ in range(rounds):
        for subject, result in zip(subjects, results, strict=True):
            result.append(subject())
    return results


def median_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """Return the median of the ratios, pair by pair."""
    pairs = zip(numerators, denominators, strict=True)
    return statistics.median(a / b for a, b in pairs)
