/*
 * The program under gdbserver and valgrind.
 *
 * usage: subject [signal | crash | spin]
 *
 * Two threads wait while main goes through its stations in this order, each of them a place to
 * stop at; then it exits with 7.
 *
 *   vectors_filled  the widest vector registers that the CPU has hold rows of `vectors`
 *   visit           called five times with 1 … 5, adds its argument to `watched`
 *   signal          SIGUSR1 is raised and handled: `handled` is 1 after it
 *   crash           a write to address 0x10
 *   spin            `spins` is counted up until `keep_spinning` is cleared from outside
 */

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

enum { THREADS = 2, ROWS = 32, ROW_BYTES = 64, EXIT_STATUS = 7 };

/*
 * Row n is what register n is filled from; byte i of it is 8 * n + i, modulo 256. Up to 256 bits a
 * debugger shows just that. Beyond them gdb and gdbserver before 14 read the XSAVE area at Intel's
 * offsets, and show parts of other registers on an AMD processor: compare with gdb there.
 */
unsigned char vectors[ROWS][ROW_BYTES] __attribute__((aligned(64)));

long watched = 0x1000;
volatile int handled;
volatile int keep_spinning = 1;
volatile unsigned long spins;
const char greeting[] = "hello from the subject";

static pthread_barrier_t all_started, may_end;

static void *wait_for_the_end(void *unused)
{
    (void)unused;
    pthread_barrier_wait(&all_started);
    pthread_barrier_wait(&may_end);
    return NULL;
}

#define ROWS_0_15 "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15"
#define ROWS_0_31 ROWS_0_15 ",16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31"

/* One statement that ends in a jump: the compiler gets no chance to use a register in between. */
#define FILL(load, kind, rows)                                                                    \
    asm volatile(".irp row, " rows "\n\t"                                                         \
                 load " 64*\\row(%0), %%" kind "\\row\n\t"                                        \
                 ".endr\n\t"                                                                      \
                 "jmp vectors_filled"                                                             \
                 :                                                                                \
                 : "r"(vectors)                                                                   \
                 : "memory")

void fill_vectors(void)
{
    if (__builtin_cpu_supports("avx512f"))
        FILL("vmovdqu64", "zmm", ROWS_0_31);
    else if (__builtin_cpu_supports("avx"))
        FILL("vmovdqu", "ymm", ROWS_0_15);
    else
        FILL("movdqu", "xmm", ROWS_0_15);
    asm volatile(".globl vectors_filled\n\t"
                 ".type vectors_filled, @function\n"
                 "vectors_filled:\n\t"
                 "nop\n\t"
                 ".size vectors_filled, . - vectors_filled");
}

__attribute__((noinline)) long visit(long amount)
{
    watched += amount;
    return watched;
}

static void on_signal(int number)
{
    handled += number == SIGUSR1;
}

static int asked(int argc, char **argv, const char *word)
{
    return argc > 1 && strcmp(argv[1], word) == 0;
}

int main(int argc, char **argv)
{
    pthread_t threads[THREADS];

    for (int row = 0; row < ROWS; row++)
        for (int i = 0; i < ROW_BYTES; i++)
            vectors[row][i] = (unsigned char)(8 * row + i);

    pthread_barrier_init(&all_started, NULL, THREADS + 1);
    pthread_barrier_init(&may_end, NULL, THREADS + 1);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, wait_for_the_end, NULL);
    pthread_barrier_wait(&all_started);

    fill_vectors();
    for (long amount = 1; amount <= 5; amount++)
        visit(amount);

    if (asked(argc, argv, "signal")) {
        signal(SIGUSR1, on_signal);
        raise(SIGUSR1);
    }
    if (asked(argc, argv, "crash"))
        *(volatile int *)0x10 = 1;
    if (asked(argc, argv, "spin"))
        while (keep_spinning)
            spins++;

    printf("%s: watched is %#lx\n", greeting, watched);
    pthread_barrier_wait(&may_end);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    return EXIT_STATUS;
}
