"""Arguments and variables of the code that a kernel has stopped in, by their names, against gdb."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

import rsp
from lab.gdb import Gdb
from lab.servers import gdbserver_tcp
from values.test_values_live import PATIENCE, PRINTING, answers, asked, assert_equal, split

if TYPE_CHECKING:
    from pathlib import Path

    from lab.guest import BootKernel, KernelName

PROGRAM = r"""
struct pair { int a, b; };
int shared = 1, hidden = 2, other = 3;
volatile int sink;
__attribute__((noinline)) void here(void) { __asm__ volatile(""); }
__attribute__((noinline)) int outer(int hidden, struct pair *pair)
{
    static int kept = 40;
    int local = hidden + pair->a;
    {
        int shared = local * 2;
        struct pair local = {shared, kept};
        extern int other;
        sink = local.a + other;
        __asm__ volatile("stop: .globl stop" : : "r"(&local) : "memory");
        here();
        kept += local.b + shared;
    }
    return local + kept;
}
int main(void) { struct pair pair = {5, 6}; return outer(7, &pair); }
"""
NAMES = "shared | hidden | local | local.a | *pair | pair->b | kept | other | sink | pair"


@pytest.mark.live("gcc", "gdb", "gdbserver")
@pytest.mark.parametrize("level", ["-O0", "-O2"])
def test_the_innermost_declaration_counts(level: str, tmp_path: Path) -> None:
    (tmp_path / "main.c").write_text(PROGRAM)
    program = tmp_path / "main"
    command = ["gcc", "-g", level, "-no-pie", "-o", str(program), "main.c"]
    subprocess.run(command, cwd=tmp_path, check=True)
    expressions = [*split(NAMES), "sizeof(shared)", "sizeof(local)", "0 && local.b", "$pc"]
    with gdbserver_tcp(program) as address:
        gdb = Gdb(address=address, symbols=program, settings=PRINTING)
        gdb.run("break stop", "continue")
        theirs = answers(gdb, expressions)
        with rsp.connect(address, symbols=program, on_exit="leave stopped") as target:
            ours = asked(target, expressions)
            assert str(target.value("shared", names={})) == "1"
            (given, *_) = target.backtrace()[0].locals
            assert str(target.value("x", names={"x": given.value})) == str(given.value)
    assert_equal(expressions, ours, theirs)


# What gdb must look a type up for costs it seconds, with Debian's kernel: not too much of that.
STOPS = {
    "debian": {
        "do_syscall_64": "regs | *regs | regs->ip | &regs->ip | regs[0].sp | nr | -nr"
        " | &regs->orig_ax | sizeof(*regs) | sizeof regs | (char)nr | regs == 0",
    },
    "x86_64": {
        "tcp_init_sock": "sk | *sk | sk->__sk_common.skc_prot->name | sk->sk_userlocks"
        " | &sk->sk_type | sk->__sk_common.skc_reuse | sk->sk_socket->ops | *sk->sk_socket"
        " | tp | icsk",
        "exc_page_fault": "regs | *regs | error_code | address",
        "wake_up_new_task": "p | p->comm | p->pid | p->sched_class | p->__state | rf | rq"
        " | p->in_iowait | p->policy | p->stack_refcount",
    },
}


@pytest.mark.live("gdb")
@pytest.mark.parametrize("kernel", STOPS)
def test_names_of_the_innermost_frame(
    boot_kernel: BootKernel, kernel: KernelName, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    guest = boot_kernel(kernel)
    for function, text in STOPS[kernel].items():
        expressions = [*split(text), "$pc", "$sp", "jiffies", "init_task.comm"]
        with rsp.connect(
            guest.address, symbols=guest.symbols, on_exit="leave stopped", timeout=30
        ) as target:
            with target.breakpoint(function):
                target.resume(timeout=240)
            ours = asked(target, expressions)
            assert target.thread is not None
            thread = target.threads.index(target.thread) + 1
            with pytest.raises(rsp.SymbolError):
                target.value(expressions[0], names={})
        gdb = Gdb(address=guest.address, symbols=guest.symbols, settings=PRINTING, timeout=PATIENCE)
        assert_equal(expressions, ours, answers(gdb, expressions, f"thread {thread}"))
        assert ours[-4].endswith(f"<{function}>")
