/* A program that has children in every way there is, and reports how they have ended.
 *
 * Each calls work(), where a test has its breakpoint. The exit status is the number of children that
 * did not end as they should; the argument chooses the way.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
volatile int worked;
static char *self;

__attribute__((noinline)) int work(int amount)
{
    worked += amount;
    return worked;
}

static int failed(pid_t child)
{
    int status;

    return waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 7;
}

static void in_child(int depth)
{
    int bad = 0;

    work(1);
    for (; depth; depth--) {
        pid_t child = fork();

        if (child != 0) {
            bad = failed(child);
            break;
        }
        work(1);
    }
    work(1);
    _exit(bad ? 1 : 7);
}

static int by_fork(int depth)
{
    pid_t child = fork();

    if (child == 0)
        in_child(depth);
    work(1);
    return failed(child);
}

static int by_vfork(int execute)
{
    pid_t child = vfork();

    if (child == 0) {
        work(1);
        if (execute)
            execl(self, self, "child", NULL);
        _exit(execute ? 1 : 7);
    }
    work(1);
    return failed(child);
}

static int by_spawn(void)
{
    char *arguments[] = {self, "child", NULL};
    pid_t child;

    if (posix_spawn(&child, self, NULL, NULL, arguments, environ))
        return 1;
    work(1);
    return failed(child);
}

static int by_system(void)
{
    char command[4200] = "exec ";
    int status;

    strncat(command, self, 4096);
    status = system(strcat(command, " child"));
    work(1);
    return !WIFEXITED(status) || WEXITSTATUS(status) != 7;
}

static int run_child(void *unused)
{
    (void)unused;
    in_child(0);
    return 0;
}

static int by_clone(void)
{
    static char stack[1 << 16] __attribute__((aligned(16)));
    pid_t child = clone(run_child, stack + sizeof stack, SIGCHLD, NULL);

    work(1);
    return failed(child);
}

static void *in_thread(void *which)
{
    long bad = 0;

    for (int round = 0; round < 3; round++)
        bad += which ? by_vfork(0) : by_fork(0);
    return (void *)bad;
}

static int by_threads(void)
{
    pthread_t threads[4];
    long bad = 0;
    void *result;

    for (long i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, in_thread, (void *)(i % 2));
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], &result);
        bad += (long)result;
    }
    return bad;
}

int main(int count, char **arguments)
{
    const char *way = count > 1 ? arguments[1] : "fork";
    sigset_t ends;
    int bad = 0;

    self = arguments[0];
    sigemptyset(&ends);
    sigaddset(&ends, SIGCHLD);
    sigprocmask(SIG_BLOCK, &ends, NULL); /* a stub reports what is not blocked */
    alarm(120);
    if (!strcmp(way, "child"))
        in_child(0);
    work(1);
    if (!strcmp(way, "fork"))
        bad = by_fork(0);
    else if (!strcmp(way, "again"))
        bad = by_fork(2);
    else if (!strcmp(way, "vfork"))
        bad = by_vfork(0);
    else if (!strcmp(way, "vfork-exec"))
        bad = by_vfork(1);
    else if (!strcmp(way, "spawn"))
        bad = by_spawn();
    else if (!strcmp(way, "system"))
        bad = by_system();
    else if (!strcmp(way, "clone"))
        bad = by_clone();
    else if (!strcmp(way, "threads"))
        bad = by_threads();
    else if (!strcmp(way, "exec"))
        bad = execl(self, self, "child", NULL);
    work(1);
    return bad;
}
