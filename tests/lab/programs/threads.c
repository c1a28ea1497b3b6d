/* A process of four threads, each with a name of its own, that sleep for good. For guests of the lab:
   linked statically. */

#include <pthread.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <unistd.h>

static void *sleeper(void *name)
{
    prctl(PR_SET_NAME, name);
    for (;;)
        pause();
    return NULL;
}

int main(void)
{
    static char names[][16] = {"first", "second", "third"};
    pthread_t thread;

    for (size_t n = 0; n < 3; n++)
        if (pthread_create(&thread, NULL, sleeper, names[n]))
            return 1;
    sleeper("main");
}
