"""What commands print with ``--json``.

Contents: how an object is printed, and the JSON of a stop. Not here: values (see `rsp.cli.values`),
frames (see `rsp.cli.frames`), and text for people (see `rsp.cli.text`).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rsp.run.stop import Stop


def print_json(value: Mapping[str, object]) -> None:
    """Print one JSON object."""
    print(json.dumps(value, indent=2))


def print_answer(answer: Mapping[str, object] | str) -> None:
    """Print an answer that is a text for people or an object for ``--json``."""
    if isinstance(answer, str):
        print(answer)
    else:
        print_json(answer)


def stop_in_json(stop: Stop) -> dict[str, object]:
    """Return why the target stands still as JSON has it."""
    return {
        "reason": stop.reason.value,
        "signal": stop.signal_name or None,
        "thread": stop.thread.id if stop.thread is not None else None,
    }
