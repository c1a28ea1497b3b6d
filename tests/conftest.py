"""What all tests share: the lab's machines as fixtures, and the rules about them.

A live test is one marked ``live("program", …)`` or that uses a fixture of the lab. Where a program
is missing it is skipped, and the reason says what to install. A program that it does not declare so
is missing for it everywhere. Under RSP_LAB=required every skip is a failure, of any test and for
any reason. No process that a test started may be left at the end. The programs in RSP_LAB_BIN, if
that is set, go before those of PATH.
"""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from lab import kernels, packages, processes, programs, servers
from lab.declared import DeclaredPrograms
from lab.gdb import Gdb
from lab.guest import Guest, SharedGuests
from lab.missing import kernels_needed, skip_without
from rsp.testing.boot import IMAGE
from rsp.testing.qemu import QemuMachine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lab.guest import BootKernel, KernelName
    from lab.kernels import BuiltKernel, DebianKernel
    from lab.servers import BootQemu, StartServer

REQUIRED = os.environ.get("RSP_LAB") == "required"
RUN = "RSP_LAB_RUN"  # in the environment of all that this run starts
PATIENCE = float(os.environ.get("RSP_LAB_PATIENCE", "60"))  # seconds that it has to end by itself

# How long an example takes says nothing on a busy machine.
settings.register_profile(
    "rsp", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("rsp")
declared = pytest.StashKey[DeclaredPrograms]()


def pytest_configure(config: pytest.Config) -> None:
    # A shell lets what it runs in the background ignore Ctrl-C, and Python leaves it so.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Who ends a run by SIGTERM, as timeout does, leaves no machine of it behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Under python -bb: Hypothesis keeps what it has tried in a dict by tuples of bytes and numbers,
    # and b"" has the hash of 0.
    config.addinivalue_line("filterwarnings", r"ignore::BytesWarning:hypothesis\.")
    if (first := os.environ.get("RSP_LAB_BIN")) is not None:
        if not Path(first).is_dir():
            raise pytest.UsageError(f"RSP_LAB_BIN is {first}, which is no directory")
        os.environ["PATH"] = f"{Path(first).resolve()}:{os.environ['PATH']}"
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="rsp-path-"))
        config.stash[declared] = DeclaredPrograms(Path(directory))
        stack.enter_context(config.stash[declared].only(()))  # for what test files keep of PATH
        config.add_cleanup(stack.pop_all().close)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for fixture in set(getattr(item, "fixturenames", ())) & packages.FIXTURES.keys():
            item.add_marker(pytest.mark.live(*packages.FIXTURES[fixture]))
        if unknown := needs(item) - packages.PACKAGES.keys():
            raise pytest.UsageError(f"{item.nodeid}: not in tests/lab/packages.py: {unknown}")


def needs(item: pytest.Item) -> set[str]:
    """Return the programs and files that a test declares, by its marks and its fixtures."""
    return {program for mark in item.iter_markers("live") for program in mark.args}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Any:
    with item.config.stash[declared].only(needs(item)):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> Any:
    """What tests share may use only what each of them declares: any may be the first."""
    if fixturedef.scope == "function":
        return (yield)
    users = [
        needs(item)
        for item in request.session.items
        if item.nodeid.startswith(fixturedef.baseid)
        and fixturedef.argname in getattr(item, "fixturenames", ())
    ]
    with request.config.stash[declared].only(set.intersection(*users) if users else ()):
        return (yield)


def pytest_runtest_setup(item: pytest.Item) -> None:
    skip_without(*needs(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    return _not_skipped(report, call.excinfo)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Any:
    report = yield
    return _not_skipped(report, report.call.excinfo)


def _not_skipped(report: Any, why: pytest.ExceptionInfo[BaseException] | None) -> Any:
    if REQUIRED and report.skipped:
        reason = why.value if why else "skipped"
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid}: RSP_LAB=required, but: {reason}"
    return report


@pytest.fixture(scope="session", autouse=True)
def _no_process_is_left() -> Iterator[None]:
    """Fail at the end of the run if anything that it started still lives, and end that."""
    # No process id: another run in a container may have the same, and we see its processes.
    run = os.environ[RUN] = uuid.uuid4().hex
    yield
    left = processes.end(f"{RUN}={run}", patience=PATIENCE)
    assert not left, f"the tests left processes behind: {left}"


@pytest.fixture
def boot_qemu() -> Iterator[BootQemu]:
    """Start QEMU on the project's boot sector, as often as a test likes."""
    with contextlib.ExitStack() as machines:

        def boot(image: Path | None = IMAGE, **options: Any) -> QemuMachine:
            return machines.enter_context(QemuMachine(image, **options))

        yield boot


@pytest.fixture
def gdb() -> type[Gdb]:
    """Return the oracle: ``gdb(address=…).registers()``."""
    return Gdb


@pytest.fixture(scope="session")
def build_program() -> Callable[[str], Path]:
    """Return what compiles a program of tests/lab/programs: ``build_program("subject.c")``."""
    return programs.build


@pytest.fixture
def gdbserver() -> Iterator[StartServer]:
    """Start gdbserver, over TCP or (``pipe=True``) as a command that the client runs."""
    with contextlib.ExitStack() as running:

        def start(*args: str, source: str = "subject.c", pipe: bool = False) -> str:
            program = programs.build(source)
            if pipe:
                return servers.gdbserver_pipe(program, *args)
            return running.enter_context(servers.gdbserver_tcp(program, *args))

        yield start


@pytest.fixture
def vgdb() -> Iterator[StartServer]:
    """Start valgrind on a program of the lab and return the address of its vgdb."""
    with contextlib.ExitStack() as running:

        def start(*args: str, source: str = "subject.c", pipe: bool = True) -> str:
            assert pipe, "vgdb is reached over a pipe"
            return running.enter_context(servers.vgdb(programs.build(source), *args))

        yield start


@pytest.fixture(scope="session")
def debian_kernel() -> DebianKernel:
    """Return the files of Debian's kernel."""
    with kernels_needed():
        return kernels.debian_kernel()


@pytest.fixture(scope="session")
def built_kernel() -> Callable[[str], BuiltKernel]:
    """Return what finds a kernel with kgdb: ``built_kernel("i386")``."""
    with kernels_needed():
        for name in kernels.FRAGMENTS:
            kernels.built_kernel(name)
    return kernels.built_kernel


@pytest.fixture
def boot_kernel() -> Iterator[BootKernel]:
    """Boot a kernel of the lab, as often as a test likes: ``boot_kernel("i386", cpus=1)``."""
    with contextlib.ExitStack() as guests:

        def boot(kernel: KernelName = "debian", **options: Any) -> Guest:
            with kernels_needed():
                return guests.enter_context(Guest(kernel, **options))

        yield boot


@pytest.fixture(scope="session")
def shared_guests() -> Iterator[SharedGuests]:
    """Boot the guests that all tests share, each when it is first asked for."""
    with contextlib.closing(SharedGuests()) as guests:
        yield guests


@pytest.fixture
def shared_kernel(shared_guests: SharedGuests) -> Iterator[BootKernel]:
    """Return a running guest that other tests use too, which leave it as it was.

    It stands still between the tests: several that run side by side make the machine slow.
    """
    asked: list[Guest] = []

    def shared(kernel: KernelName = "debian", **options: Any) -> Guest:
        with kernels_needed():
            asked.append(shared_guests(kernel, **options))
        return asked[-1]

    yield shared
    for guest in asked:
        guest.monitor("stop")
