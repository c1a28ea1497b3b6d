"""The examples in the docstrings are true."""

from __future__ import annotations

import doctest
import pkgutil
from importlib import import_module

import pytest

import rsp

MODULES = [
    "rsp",
    *(
        module.name
        for module in pkgutil.walk_packages(rsp.__path__, "rsp.")
        if module.name != "rsp.__main__"  # it is a program
    ),
]


# What tests/remote/test_examples.py runs on a machine.
ON_A_MACHINE = ("rsp.remote.target.Target.", "rsp.remote.debuggee.Debuggee.")


def examples_of(name: str) -> list[doctest.DocTest]:
    found = doctest.DocTestFinder().find(import_module(name))
    return [each for each in found if each.examples and not each.name.startswith(ON_A_MACHINE)]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of(name: str) -> None:
    said: list[str] = []
    runner = doctest.DocTestRunner()
    for example in examples_of(name):
        runner.run(example, out=said.append)
    assert not runner.failures, "".join(said)


def test_there_are_examples() -> None:
    assert len([name for name in MODULES if examples_of(name)]) > 20
