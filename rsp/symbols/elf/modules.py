"""Kernel modules as files: found, opened at their addresses, and held against their kernel.

Contents: what a module says of itself, the search for its file, and gdb's ``add-symbol-file``
lines. Not here: relocation (`relocation`), and reading addresses from a running kernel.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rsp.errors import BadImage, SymbolError, nearest
from rsp.symbols.elf.image import Image
from rsp.symbols.elf.relocation import RelocatedImage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SUFFIXES = tuple(
    f".ko{debug}{packed}" for debug in ("", ".debug") for packed in ("", ".xz", ".zst", ".gz")
)
_NAME_AT = {4: 12, 8: 24}
"""Where struct module has its name: behind its state and its list node (include/linux/module.h)."""
_BANNER = b"Linux version "


def open_module(
    path: str | os.PathLike[str],
    addresses: Mapping[str, int],
    *,
    build_id: bytes | None = None,
    kernel: Image | None = None,
) -> RelocatedImage:
    """Return a module relocated to where it was loaded.

    Args:
        path: a ``.ko`` or its debug file, also compressed by xz, zstd or gzip.
        addresses: the addresses of its sections by name, as in /sys/module/NAME/sections. One
            that is not given is not loaded, as .init.text is not once the module has started:
            nothing is guessed from the others.
        build_id: what the module that was loaded says of itself, to hold the file against.
        kernel: the vmlinux that it is to run with, to hold its version against.

    Raises:
        BadImage: the file cannot be read, is no module, is another one than that build-id's or for
            another kernel; or the addresses cannot be those of its sections.
    """
    module = RelocatedImage(path, addresses)
    if build_id is not None and module.build_id != build_id:
        found = module.build_id.hex() if module.build_id else "none"
        raise BadImage(
            f"{module.path}: another build than the module that is loaded: its build-id is "
            f"{found}, not {build_id.hex()}",
            path=module.path,
        )
    if kernel is not None:
        _check_kernel(module, kernel)
    return module


def moved_by(image: Image, addresses: Mapping[str, int]) -> int:
    """Return how far a linked file was moved, by the addresses of its sections.

    Raises:
        BadImage: it has no such sections, or each was moved by another distance.
    """
    slides = {}
    for name, address in addresses.items():
        section = image.named(name)
        if section is None or not section.loaded:
            known = [each.name for each in image.sections if each.loaded]
            raise BadImage(
                f"{image.path}: it has no section {name} to be loaded{nearest(name, known)}",
                path=image.path,
            )
        slides[name] = address - section.address
    if len(set(slides.values())) != 1:
        told = ", ".join(f"{name} by {slide:#x}" for name, slide in slides.items()) or "none given"
        raise BadImage(
            f"{image.path}: it is linked, so all its sections move by one distance: {told}",
            path=image.path,
        )
    return next(iter(slides.values()))


def linked_image(path: str) -> Image:
    """Return a file that moves as a whole.

    Raises:
        BadImage: it cannot be read, or its sections have no addresses yet.
    """
    image = Image(path)
    if image.relocatable:
        raise BadImage(
            f"{path}: an object or a module, whose sections have no addresses to be moved from: "
            "give each of them",
            path=path,
        )
    return image


def module_name(image: Image) -> str:
    """Return the name that the kernel knows a module by: ``nf_tables`` for ``nf-tables.ko``.

    A debug file without contents is asked for its file name.
    """
    if name := _modinfo(image).get(b"name"):  # since Linux 4.8
        return _text(name)
    try:
        name = image.contents(".gnu.linkonce.this_module")[_NAME_AT[image.word_size] :]
    except BadImage:
        name = b""
    name = name.partition(b"\0")[0]
    return _text(name) if name else _name_of(Path(image.path).name)


def vermagic(image: Image) -> str | None:
    """Return the release and configuration of the kernel that a module is made for.

    None is for a debug file without contents. ``6.1.0-56-cloud-amd64 SMP preempt mod_unload
    modversions`` is one; its first word is the release.
    """
    magic = _modinfo(image).get(b"vermagic")
    return None if magic is None else _text(magic).strip()


def kernel_release(kernel: Image) -> str | None:
    """Return the release in a vmlinux's banner, ``6.1.0-56-cloud-amd64``; None without one."""
    try:
        data = kernel.contents(".rodata")
        at = data.find(_BANNER)
        while at >= 0:
            banner = data[at + len(_BANNER) : at + len(_BANNER) + 128]
            if banner[:1].isdigit():  # not a format of printk's
                return _text(banner.split()[0])
            at = data.find(_BANNER, at + 1)
    except BadImage:
        pass
    return None


def find_module(
    directory: str | os.PathLike[str], name: str, *, build_id: bytes | None = None
) -> str | None:
    """Return the path of a module's file in a tree such as /lib/modules/RELEASE.

    Of several, one with debug information comes first, then by their paths.

    Args:
        directory: where to search, also below.
        name: the module's; ``-`` and ``_`` are the same in it.
        build_id: only a file of this build will do.
    """
    wanted = name.replace("-", "_")
    without = None
    for path in sorted(_files(directory, wanted)):
        try:
            image = Image(path)
        except BadImage:
            continue
        if build_id is not None and image.build_id != build_id:
            continue
        if image.named(".debug_info"):
            return path
        without = without or path
    return without


class SymbolFile(NamedTuple):
    """A line of ``add-symbol-file``: the file, where its sections are, an offset for the others."""

    path: str
    addresses: dict[str, int]
    offset: int | None


def read_symbol_script(text: str) -> list[SymbolFile]:
    r"""Return the files that a gdb script adds by ``add-symbol-file``.

    Args:
        text: lines of ``add-symbol-file FILE [-o OFFSET] [ADDRESS] [-s SECTION ADDRESS]…`` (gdb
            manual, "Commands to Specify Files"), blank ones and comments.

    Raises:
        SymbolError: a line is anything else; the message has its number.

    >>> text = "add-symbol-file dummy.ko 0xc0000000 -s .data 0xc0002000"
    >>> read_symbol_script(text)[0].addresses == {".text": 0xC0000000, ".data": 0xC0002000}
    True
    """
    files = []
    pending = ""
    begin = 1
    for number, line in enumerate(text.splitlines(), 1):
        begin = begin if pending else number
        pending += line
        if line.endswith("\\"):  # gdb goes on with the next line
            pending = pending[:-1] + " "
            continue
        if pending.strip() and not pending.lstrip().startswith("#"):
            files.append(_symbol_file(pending, begin))
        pending = ""
    if pending.strip():
        raise SymbolError(f"line {begin}: it goes on after the end of the script")
    return files


def _symbol_file(line: str, number: int) -> SymbolFile:
    def fail(reason: str) -> SymbolError:
        return SymbolError(
            f"line {number}: {reason}; expected add-symbol-file FILE [-o OFFSET] [ADDRESS] "
            "[-s SECTION ADDRESS]..."
        )

    def address(word: str) -> int:
        try:
            value = int(word, 0)
        except ValueError:
            value = -1
        if not 0 <= value < 1 << 64:
            raise fail(f"{word!r} is no address")
        return value

    try:
        command, *rest = shlex.split(line)
    except ValueError as error:
        raise fail(str(error).lower()) from error
    if command != "add-symbol-file":
        raise fail(f"{command!r} is another command")
    path = None
    offset = None
    addresses: dict[str, int] = {}
    words = iter(rest)
    for word in words:
        match word:
            case "-s":
                section = next(words, "")
                if section in addresses:
                    raise fail(f"a second address of {section}")
                addresses[section] = address(next(words, ""))
            case "-o":
                offset = address(next(words, ""))
            case "-readnow" | "-readnever":
                pass
            case _ if word.startswith("-"):
                raise fail(f"{word!r} is no option")
            case _ if path is None:
                path = word
            case _ if ".text" not in addresses:
                addresses[".text"] = address(word)
            case _:
                raise fail(f"{word!r} is one too many")
    if path is None:
        raise fail("no file")
    # Path's expanduser raises where there is no such user, and a shell and gdb leave it.
    return SymbolFile(os.path.expanduser(path), addresses, offset)  # noqa: PTH111


def _check_kernel(module: Image, kernel: Image) -> None:
    magic, release = vermagic(module), kernel_release(kernel)
    if magic and release and magic.split()[0] != release:
        raise BadImage(
            f"{module.path}: a module for another kernel: it is made for {magic.split()[0]}, "
            f"and {kernel.path} is {release}",
            path=module.path,
        )


def _modinfo(image: Image) -> dict[bytes, bytes]:
    try:
        entries = image.contents(".modinfo")[:].split(b"\0")
    except BadImage:
        return {}
    return {key: value for key, _, value in (entry.partition(b"=") for entry in reversed(entries))}


def _files(directory: str | os.PathLike[str], name: str) -> Iterator[str]:
    for parent, _, files in os.walk(directory):  # not into the source tree, a symbolic link
        for file in files:
            if file.endswith(_SUFFIXES) and _name_of(file) == name:
                yield f"{parent}/{file}"


def _name_of(file: str) -> str:
    return file.partition(".ko")[0].replace("-", "_")


def _text(name: bytes) -> str:
    return name.decode(errors="surrogateescape")
