"""The names of types as C spells them, and as debug files do.

Contents: what the text of a name tells by itself. Not here: the types (`types`).
"""

from __future__ import annotations

# The integers that have several spellings: gdb's, and the one that gcc writes into debug files.
_SPELLINGS = {
    "short": "short int",
    "unsigned short": "short unsigned int",
    "long": "long int",
    "unsigned long": "long unsigned int",
    "long long": "long long int",
    "unsigned long long": "long long unsigned int",
    "unsigned __int128": "__int128 unsigned",
}
_GNU_NAMES = {spelling: name for name, spelling in _SPELLINGS.items()} | {
    # gdb leaves this one as it is.
    "__int128 unsigned": "__int128 unsigned",
}
_KEYWORDS = frozenset(("struct", "union", "enum"))
_INTEGER_WORDS = frozenset(("short", "long", "int", "signed", "unsigned"))


def canonical(name: str) -> str:
    """Return the shortest spelling of an integer type's name; other names as they are.

    >>> canonical("long unsigned int"), canonical("int long signed"), canonical("u32")
    ('unsigned long', 'long', 'u32')
    """
    if name in _GNU_NAMES:
        return _GNU_NAMES[name]
    words = name.split()
    if not words or not _INTEGER_WORDS.issuperset(words):
        return name
    sign = ["unsigned"] if "unsigned" in words else []
    length = [word for word in words if word in ("short", "long")]
    return " ".join(sign + (length or ["int"]))


def spellings(name: str) -> tuple[str, ...]:
    """Return the names under which a debug file may have what C calls ``name``.

    >>> spellings("unsigned long")
    ('long unsigned int', 'unsigned long')
    """
    short = canonical(name)
    if short not in _SPELLINGS:
        return (short,)
    return (_SPELLINGS[short], short)


def split_name(name: str) -> tuple[str, str]:
    """Return the keyword, or an empty string, and the name behind it.

    >>> split_name("struct  page"), split_name("pid_t")
    (('struct', 'page'), ('', 'pid_t'))
    """
    words = name.split()
    if len(words) == 2 and words[0] in _KEYWORDS:
        return words[0], words[1]
    return "", " ".join(words)
