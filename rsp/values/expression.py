"""Expressions of C: what ``rsp print`` takes.

Contents: the grammar (C17, section 6.5, without assignments and calls) and the names of types in
it. Not here: what names stand for (`scope`), what operators compute (`c_arithmetic`).

An expression is evaluated while it is read: values read memory only when they must, and what need
not be evaluated (behind ``sizeof``, or on the other side of ``&&``) is, over memory of zeros.
No code of the target is ever called.
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from rsp import arguments
from rsp.errors import ExpressionError
from rsp.symbols.types.spelling import canonical
from rsp.symbols.types.types import MAX_CHAIN, Array, Pointer, Qualified, Qualifier
from rsp.values.arithmetic import base_types, binary, integer, unary
from rsp.values.scope import Scope
from rsp.values.value import Value, element_size

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rsp.symbols.types.types import Type
    from rsp.values.value import Space

MAX_LENGTH: Final = 10_000
"""How many characters an expression may have."""
MAX_DEPTH: Final = 64
"""How deep parentheses and operators may be within each other."""

_LONGEST_NUMBER = 100

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<float>(?:(?:\d+\.\d*|\.\d+)(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+)(?![\w.]))
      | (?P<number>\d\w*)
      | (?P<name>\$?[A-Za-z_]\w*)
      | (?P<quoted>'[^'\n]+'(?=\s*::))
      | (?P<char>'(?:[^'\\\n]|\\(?:[0-7]{1,3}|x[0-9a-fA-F]{1,2}|.))')
      | (?P<operator>->|::|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^~!<>()\[\].])
      | (?P<end>\Z)
    )""",
    re.VERBOSE,
)
_NUMBER = re.compile(r"(0[xX][0-9a-fA-F]+|0[bB][01]+|0[0-7]*|[1-9]\d*)([uU]?)([lL]{0,2})([uU]?)")

# From what binds least; operators of one level go from left to right.
_LEVELS = (
    ("||",), ("&&",), ("|",), ("^",), ("&",), ("==", "!="), ("<", "<=", ">", ">="), ("<<", ">>"),
    ("+", "-"), ("*", "/", "%"),
)  # fmt: skip
_PRECEDENCE: Final[Mapping[str, int]] = {
    symbol: level for level, symbols in enumerate(_LEVELS) for symbol in symbols
}
_UNARY = frozenset("*&+-~!")
_TAGS = frozenset(("struct", "union", "enum"))
_QUALIFIERS = {
    "const": Qualifier.CONST,
    "volatile": Qualifier.VOLATILE,
    "restrict": Qualifier.RESTRICT,
    "_Atomic": Qualifier.ATOMIC,
}
_SIZES = ("char", "short", "int", "long", "float", "double", "_Bool", "__int128")
_BASE_WORDS = frozenset(("void", *_SIZES, "signed", "unsigned"))


def evaluate(text: str, scope: Scope) -> Value:
    """Return what an expression comes to.

    Raises:
        SymbolNotFound: a name stands for nothing; the message has the nearest.
        ExpressionError: the text is no expression, or C has no such operation.
        ArgumentError: it is no text.
        MemoryFault: what a pointer in it points to cannot be read.
        RegisterUnavailable: there is no such register.
    """
    parser = _Parser(arguments.text(text, "expression", "an expression of C, as text"), scope)
    value = parser.expression()
    parser.at_end()
    return value


def parse_type(text: str, space: Space) -> Type:
    """Return the type of a name in C: ``struct sock *``, ``unsigned long``, ``char *[4]``.

    Raises:
        SymbolNotFound: there is no such type.
        ExpressionError: the text is none of a type.
    """
    parser = _Parser(text, Scope(space=space))
    ctype = parser.type_name()
    parser.at_end()
    return ctype


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


class _Parser:
    """Reads one text from left to right."""

    def __init__(self, text: str, scope: Scope) -> None:
        if len(text) > MAX_LENGTH:
            raise ExpressionError(
                f"an expression of {len(text)} characters; {MAX_LENGTH} are allowed"
            )
        self._text = text
        self._scope = scope
        self._dry = 0
        self._depth = 0
        self._tokens = _tokens(text)
        self._next = 0

    # --- expressions ---

    def expression(self, level: int = 0) -> Value:
        """Read operators that bind at least as much as a level, and their operands."""
        left = self._operand()
        while (found := _PRECEDENCE.get(self._peek())) is not None and found >= level:
            symbol = self._take()
            if symbol in ("&&", "||"):
                left = self._logical(symbol, left, found)
            else:
                right = self.expression(found + 1)
                left = binary(symbol, left, right, dry=self._dry > 0)
        return left

    def _logical(self, symbol: str, left: Value, level: int) -> Value:
        truth = bool(left.decayed_())
        if truth == (symbol == "&&"):
            truth = bool(self.expression(level + 1).decayed_())
        else:
            self._unevaluated(lambda: self.expression(level + 1))
        return integer(self._scope.space, int(truth))

    def _operand(self) -> Value:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ExpressionError(f"{self._shown()}: deeper than {MAX_DEPTH} levels")
        try:
            symbol = self._peek()
            if symbol in _UNARY:
                self._take()
                return unary(symbol, self._operand())
            if symbol == "sizeof":
                self._take()
                return self._sizeof()
            if symbol == "(" and self._is_type(self._next + 1):
                self._take()
                ctype = self.type_name()
                self._expect(")")
                return self._operand().cast_(ctype)
            return self._postfix(self._primary())
        finally:
            self._depth -= 1

    def _sizeof(self) -> Value:
        if self._peek() == "(" and self._is_type(self._next + 1):
            self._take()
            ctype = self.type_name()
            self._expect(")")
        else:
            ctype = self._unevaluated(self._operand).type_
        flexible = isinstance(ctype.resolved, Array) and ctype.size is None
        # gdb has int for it, where C has size_t.
        return integer(self._scope.space, 0 if flexible else element_size(ctype))

    def _unevaluated(self, read: Callable[[], Value]) -> Value:
        before = self._scope
        self._scope = before.dry()
        self._dry += 1
        try:
            return read()
        finally:
            self._dry -= 1
            self._scope = before

    def _postfix(self, value: Value) -> Value:
        while True:
            match self._peek():
                case "[":
                    self._take()
                    at = self.expression()
                    self._expect("]")
                    value = value[at]
                case "." | "->":
                    self._take()
                    value = value[self._take_name("a member")]
                case "(":
                    raise self._error(
                        "functions of the target are not called: an operator should be"
                    )
                case _:
                    return value

    def _primary(self) -> Value:
        token = self._tokens[self._next]
        space = self._scope.space
        if token.kind == "end":
            raise self._error("something is missing")
        self._next += 1
        match token.kind:
            case "number":
                return self._number(token)
            case "float":
                return Value.number_(
                    space, base_types(space.word_size)["double"], float(token.text)
                )
            case "char":
                return integer(space, _character(token.text), "char")
            case "name" if token.text.startswith("$"):
                return self._scope.register(token.text[1:])
            case "quoted":
                return self._qualified(token.text[1:-1])
            case "name" if self._peek() == "::":
                return self._qualified(token.text)
            case "name":
                return self._scope.value(token.text)
        if token.text == "(":
            value = self.expression()
            self._expect(")")
            return value
        self._next -= 1
        raise self._error("a name, a number or ( should be")

    def _qualified(self, name: str) -> Value:
        """Return what is behind ``function::`` or ``'file.c'::``, or both."""
        from rsp.values.qualified import scope_of

        scope = self._scope
        while self._peek() == "::":
            self._take()
            scope = scope_of(scope, name)
            name = self._take_name("a name")
        return scope.value(name)

    def _number(self, token: _Token) -> Value:
        """Return an integer in the first of the types that has it (C17, section 6.4.4.1)."""
        found = _NUMBER.fullmatch(token.text)
        if found is None or (found[2] and found[4]) or len(token.text) > _LONGEST_NUMBER:
            raise ExpressionError(f"{self._shown()}: {token.text[:80]!r} is no number")
        digits, unsigned, longs = found[1], bool(found[2] or found[4]), len(found[3])
        octal = len(digits) > 1 and digits[0] == "0" and digits.isdigit()
        number = int(digits, 8 if octal else 0)
        types = base_types(self._scope.space.word_size)
        for name in ("int", "long", "long long")[longs:]:
            for sign in ("", "unsigned "):
                size = types[name].size or 0
                # A decimal number is not unsigned for being large, but where nothing else has it.
                decimal = digits[0] != "0" and size < 8
                if not sign if unsigned else sign and decimal:
                    continue
                if number < 1 << 8 * size - (not sign):
                    return Value.number_(self._scope.space, types[sign + name], number)
        raise ExpressionError(f"{self._shown()}: {token.text} is larger than any integer")

    # --- types ---

    def _is_type(self, at: int) -> bool:
        """Return whether the tokens from one on, up to a parenthesis, are the name of a type."""
        token = self._tokens[at]
        if token.kind != "name" or token.text.startswith("$"):
            return False
        if token.text in _TAGS or token.text in _QUALIFIERS or token.text in _BASE_WORDS:
            return True
        if self._scope.has(token.text):
            return False
        stars = False
        for following in self._tokens[at + 1 :]:
            if following.text == ")":
                break
            stars = stars or following.text == "*"
            if following.text not in ("*", "[", "]", *_QUALIFIERS) and following.kind != "number":
                return False
        else:
            return False
        if stars or self._before(at) == "sizeof":
            return True
        # (name) and no operand behind it: an unknown variable.
        after = self._tokens[self._tokens.index(following) + 1]
        return after.kind not in ("operator", "end") or after.text in {"(", *_UNARY}

    def _before(self, at: int) -> str:
        return self._tokens[at - 2].text if at >= 2 else ""

    def type_name(self) -> Type:
        """Read the name of a type: ``const struct page *``, ``unsigned char [6]``."""
        qualifiers = self._qualifiers()
        name = self._take_name("a type")
        if name in _TAGS:
            name = f"{name} {self._take_name('a tag')}"
        elif name in _BASE_WORDS:
            words = [name]
            while self._peek() in _BASE_WORDS or self._peek() in _QUALIFIERS:
                word = self._take()
                if word in _QUALIFIERS:
                    qualifiers |= _QUALIFIERS[word]
                else:
                    words.append(word)
            name = _base_name(words)
        ctype = self._scope.type(name)
        qualifiers |= self._qualifiers()
        if qualifiers:
            ctype = Qualified(ctype, qualifiers)
        return self._declarator(ctype)

    def _declarator(self, ctype: Type) -> Type:
        for _ in range(MAX_CHAIN):
            if self._peek() != "*":
                break
            self._take()
            ctype = Pointer(ctype, self._scope.space.word_size)
            if qualifiers := self._qualifiers():
                ctype = Qualified(ctype, qualifiers)
        counts = []
        while self._peek() == "[":
            self._take()
            counts.append(int(self.expression()))
            self._expect("]")
        if len(counts) > MAX_CHAIN or any(count < 0 for count in counts):
            raise self._error("an array cannot be like that")
        for count in reversed(counts):
            ctype = Array(ctype, count)
        return ctype

    def _qualifiers(self) -> Qualifier:
        found = Qualifier(0)
        while self._peek() in _QUALIFIERS:
            found |= _QUALIFIERS[self._take()]
        return found

    # --- tokens ---

    def _peek(self) -> str:
        return self._tokens[self._next].text

    def _take(self) -> str:
        token = self._tokens[self._next]
        self._next += 1
        return token.text

    def _take_name(self, what: str) -> str:
        token = self._tokens[self._next]
        if token.kind != "name" or token.text.startswith("$"):
            raise self._error(f"{what} should be")
        return self._take()

    def _expect(self, text: str) -> None:
        if self._peek() != text:
            raise self._error(f"{text!r} should be")
        self._take()

    def at_end(self) -> None:
        """Raise ExpressionError unless all has been read."""
        if self._tokens[self._next].kind != "end":
            raise self._error("an operator should be")

    def _error(self, what: str) -> ExpressionError:
        token = self._tokens[self._next]
        where = f"where {token.text!r} is" if token.text else "at the end"
        return ExpressionError(f"{self._shown()}: {what} {where} (column {token.at + 1})")

    def _shown(self) -> str:
        return repr(self._text if len(self._text) <= 80 else f"{self._text[:80]}…")


def _tokens(text: str) -> list[_Token]:
    tokens = []
    at = 0
    while True:
        found = _TOKEN.match(text, at)
        if found is None or found.lastgroup is None:
            at += len(text[at:]) - len(text[at:].lstrip())
            raise ExpressionError(
                f"{text[:80]!r}: {text[at : at + 1]!r} is nothing of C (column {at + 1})"
            )
        kind = found.lastgroup
        tokens.append(_Token(kind, found[kind], found.start(kind)))
        if kind == "end":
            return tokens
        at = found.end()


def _character(text: str) -> int:
    try:
        return ord(ast.literal_eval(f"b{text}"))
    except (SyntaxError, ValueError, TypeError):
        raise ExpressionError(f"{text} is no character of C") from None


def _base_name(words: list[str]) -> str:
    """Return the shortest spelling of one of C's own types."""
    rest = sorted(word for word in words if word not in ("signed", "unsigned"))
    sign = "unsigned " if "unsigned" in words else ""
    match rest:
        case ["char"]:
            return f"{'signed ' if 'signed' in words else sign}char"
        case ["__int128"]:
            return f"{sign}__int128"
        case ["double", "long"]:
            return "long double"
        case _:
            name = canonical(" ".join(words))
            return "unsigned int" if name == "unsigned" else name
