"""Ctrl-C waits for the end of a block, or for a wait within it."""

# ruff: noqa: PT012 - what a block does is what is tested

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from rsp.ctrl_c import held, is_held, waiting
from rsp.transports import open_transport
from rsp.transports.memory import MemoryTransport

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _python_handles_sigint() -> Iterator[None]:
    # A shell may have let this test run ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert not is_held()
    signal.signal(signal.SIGINT, before)


MAIN = threading.get_ident()


def press() -> None:
    signal.raise_signal(signal.SIGINT)


def test_it_comes_at_the_end_of_the_block() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), held():
        press()
        done.append("the rest of the block")
    assert done


def test_it_comes_though_the_block_fails() -> None:
    with pytest.raises(KeyboardInterrupt) as caught, held():
        press()
        raise ValueError
    assert isinstance(caught.value.__context__, ValueError)


def test_it_comes_at_the_end_of_the_outermost_block() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), held():
        with held():
            press()
        done.append("the rest of the outer block")
    assert done


@pytest.mark.parametrize(
    ("outer", "inner", "lets_through"),
    [(True, True, True), (True, False, False), (False, True, False), (False, False, False)],
)
def test_a_wait_lets_it_through_where_all_blocks_do(
    outer: bool, inner: bool, lets_through: bool
) -> None:
    came = "at the end"
    with pytest.raises(KeyboardInterrupt), held(but_in_waits=outer), held(but_in_waits=inner):
        press()
        try:
            with waiting():
                pass
        except KeyboardInterrupt:
            came = "in the wait"
            raise
        came = "later"
    assert (came == "in the wait") == lets_through


def test_it_comes_once() -> None:
    with held(but_in_waits=True):
        press()
        with pytest.raises(KeyboardInterrupt), waiting():
            pass
        with waiting():
            pass


def test_after_an_inner_block_a_wait_lets_it_through_again() -> None:
    with held(but_in_waits=True):
        with held():
            press()
        with pytest.raises(KeyboardInterrupt), waiting():
            pass


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGALRM])
def test_what_else_a_program_makes_an_exception_of(number: signal.Signals) -> None:
    def stop(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(number, stop)
    done = []
    try:
        with pytest.raises(TimeoutError), held():
            signal.raise_signal(number)
            done.append("the rest")
        assert signal.getsignal(number) is stop
    finally:
        signal.signal(number, before)
    assert done


def test_a_signal_that_python_does_not_handle_is_left_alone() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with held():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_in_another_thread_nothing_is_held() -> None:
    found: list[bool] = []

    def work() -> None:
        with held():
            found.append(is_held())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]


def test_a_wait_in_another_thread_is_no_wait_of_ours() -> None:
    waits, over = threading.Event(), threading.Event()

    def work() -> None:
        with waiting():
            waits.set()
            over.wait()

    thread = threading.Thread(target=work)
    done = []
    with pytest.raises(KeyboardInterrupt), held(but_in_waits=True):
        thread.start()
        waits.wait()
        press()
        done.append("the rest")
        over.set()
        thread.join()
    assert done


@pytest.mark.parametrize("address", ["memory", "| sleep 100"])
def test_a_transport_waits(address: str) -> None:
    ours = MemoryTransport.pair()[0] if address == "memory" else open_transport(address, timeout=5)
    with ours, held(but_in_waits=True):
        later = threading.Timer(0.1, lambda: signal.pthread_kill(MAIN, signal.SIGINT))
        later.start()
        with pytest.raises(KeyboardInterrupt):
            ours.read(100, None)
        later.join()


def test_a_connection_that_is_not_made_is_waited_for() -> None:
    """A listener that has as many as it takes does not answer."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            other = stack.enter_context(socket.socket())
            other.setblocking(False)
            other.connect_ex(listener.getsockname())
        later = threading.Timer(0.1, lambda: signal.pthread_kill(MAIN, signal.SIGINT))
        later.start()
        with pytest.raises(KeyboardInterrupt), held(but_in_waits=True):
            open_transport(f"127.0.0.1:{listener.getsockname()[1]}", timeout=300)
        later.join()
