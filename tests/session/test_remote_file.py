"""Files of the stub's machine: read whole, bounded, and always closed again."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

import rsp
from lab.programs import build
from rsp.session.remote_file import read_file
from rsp.testing.personalities import PLAIN
from rsp.testing.serve import StubTransport
from rsp.testing.stub import Stub
from rsp.wire import commands, replies

if TYPE_CHECKING:
    from pathlib import Path

    from lab.servers import StartServer

CONTENT = bytes(range(256)) * 40


class Files:
    """Answers for one file, as a stub does whose packets are short."""

    def __init__(self, content: bytes | None, *, endless: bool = False) -> None:
        self.content = content
        self.endless = endless
        self.open: list[int] = []
        self.numbers = itertools.count(5)

    def __call__(self, stub: Stub, command: commands.Command) -> replies.Reply | None:
        match command:
            case commands.FileOpen(path="/proc/1/maps") if self.content is not None:
                self.open.append(next(self.numbers))
                return replies.FileResult(result=self.open[-1])
            case commands.FileOpen():
                return replies.FileResult(result=-1, errno=2)
            case commands.FileRead(descriptor=descriptor, count=count, offset=offset):
                assert descriptor in self.open
                assert count
                data = b"x" * count if self.endless else (self.content or b"")[offset:][:count]
                return replies.FileResult(result=len(data), data=data)
            case commands.FileClose(descriptor=descriptor):
                self.open.remove(descriptor)
                return replies.FileResult(result=0)
        return None


def read(files: Files | None, path: str = "/proc/1/maps", **options: int) -> bytes | None:
    stub = Stub(PLAIN)
    if files is not None:
        stub.hooks.append(files)
    with rsp.connect(StubTransport(stub)) as target:
        found = read_file(target.session, path, **options)
    assert not stub.violations
    assert files is None or not files.open
    return found


def test_a_file_of_many_packets() -> None:
    assert read(Files(CONTENT)) == CONTENT


def test_an_empty_file() -> None:
    assert read(Files(b"")) == b""


def test_no_more_than_is_asked_for() -> None:
    assert read(Files(CONTENT), most=1000) == CONTENT[:1000]


def test_a_file_without_an_end() -> None:
    assert read(Files(b"x", endless=True), most=100_000) == b"x" * 100_000


@pytest.mark.parametrize("files", [None, Files(None)])
def test_none_where_it_cannot_be_read(files: Files | None) -> None:
    assert read(files) is None


def test_gdbserver_s(gdbserver: StartServer, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(CONTENT * 10)
    with rsp.connect(gdbserver()) as target:
        assert read_file(target.session, str(file)) == CONTENT * 10
        assert read_file(target.session, str(tmp_path / "none")) is None
        assert read_file(target.session, str(tmp_path)) is None  # a directory
        program = read_file(target.session, str(build("subject.c")), most=4)
        assert program == b"\x7fELF"
