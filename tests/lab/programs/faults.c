/*
 * Signals of every kind that has something to tell.
 *
 * usage: faults unmapped | protected | general | beyond | divide | illegal | user | queue | timer | child
 *
 *   unmapped   a write to address 0x10                 SIGSEGV, SEGV_MAPERR
 *   protected  a write to `read_only`                  SIGSEGV, SEGV_ACCERR
 *   general    a read at an address that no x86 has    SIGSEGV, SI_KERNEL: the CPU tells none
 *   beyond     a read behind the end of a mapped file  SIGBUS, BUS_ADRERR, at `page` + 0x10
 *   divide     by zero                                 SIGFPE, FPE_INTDIV, at `divides`
 *   illegal    ud2                                     SIGILL, ILL_ILLOPN, at `ud2_here`
 *   user       kill by itself                          SIGUSR1, SI_USER
 *   queue      sigqueue by itself                      SIGUSR2, SI_QUEUE
 *   timer      a POSIX timer                           SIGALRM, SI_TIMER
 *   child      that exits with 9                       SIGCHLD, CLD_EXITED
 */

#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

const int read_only = 1;
char *volatile page;

static void on_signal(int number)
{
    (void)number;
}

int main(int argc, char **argv)
{
    const char *kind = argc > 1 ? argv[1] : "";

    if (!strcmp(kind, "unmapped"))
        *(volatile int *)0x10 = 1;
    if (!strcmp(kind, "protected"))
        *(volatile int *)&read_only = 2;
    if (!strcmp(kind, "general"))
        return *(volatile char *)0x8000000000000000ul;
    if (!strcmp(kind, "beyond")) {
        page = mmap(NULL, 4096, PROT_READ, MAP_SHARED, memfd_create("empty", 0), 0);
        return page[0x10];
    }
    if (!strcmp(kind, "divide"))
        asm volatile("xor %%ecx, %%ecx\n\tcltd\n\t.globl divides\ndivides: idivl %%ecx" ::: "eax", "ecx", "edx");
    if (!strcmp(kind, "illegal"))
        asm volatile(".globl ud2_here\nud2_here: ud2");
    if (!strcmp(kind, "user"))
        kill(getpid(), SIGUSR1);
    if (!strcmp(kind, "queue"))
        sigqueue(getpid(), SIGUSR2, (union sigval){.sival_int = 77});
    if (!strcmp(kind, "timer")) {
        timer_t timer;
        struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
        struct itimerspec soon = {.it_value = {.tv_nsec = 1000000}};

        timer_create(CLOCK_MONOTONIC, &event, &timer);
        timer_settime(timer, 0, &soon, NULL);
        pause();
    }
    if (!strcmp(kind, "child")) {
        sigset_t signals;
        sigemptyset(&signals);
        sigaddset(&signals, SIGCHLD);
        sigprocmask(SIG_BLOCK, &signals, NULL); /* it may come before it is waited for */
        signal(SIGCHLD, on_signal);
        if (fork() == 0)
            _exit(9);
        sigemptyset(&signals);
        sigsuspend(&signals);
    }
    return 0;
}
