"""C, as the language of values.

Contents: `C`, which values are written and types are named in. Not here: how (see `text` and
`expression`, which are loaded when they are first needed).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rsp.symbols.types.types import Type
    from rsp.values.value import Language, Space, Value


class _C:
    """See `rsp.values.value.Language`."""

    def __repr__(self) -> str:
        return "C"

    def format(self, value: Value) -> str:
        from rsp.values.text import print_text

        return print_text(value)

    def describe(self, value: Value) -> str:
        from rsp.values.text import repr_text

        return repr_text(value)

    def parse_type(self, text: str, space: Space) -> Type:
        from rsp.values.expression import parse_type

        return parse_type(text, space)


C: Final[Language] = _C()
