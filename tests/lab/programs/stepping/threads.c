/* Three threads that each count what they do, until a debugger says that it is done. */
#include <pthread.h>

enum { THREADS = 3 };

struct worker {
    long number;
    volatile long calls;
    volatile long others;
};

struct worker workers[THREADS];
volatile int done;

__attribute__((noinline)) long work(struct worker *self)
{
    long calls = self->calls + 1;
    self->calls = calls;
    return calls;
}

static void *loop(void *argument)
{
    struct worker *self = argument;
    while (!done) {
        work(self);
        self->others++;
    }
    return 0;
}

int main(void)
{
    pthread_t threads[THREADS];
    for (long i = 1; i < THREADS; i++) {
        workers[i].number = i;
        pthread_create(&threads[i], 0, loop, &workers[i]);
    }
    loop(&workers[0]);
    return 0;
}
