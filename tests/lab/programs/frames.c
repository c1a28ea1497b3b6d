/* Calls of many kinds; each ends in stop_here, where the tests look at the stack. */

#include <stdbool.h>
#ifdef FREESTANDING /* without signals, and at its end where it would jump back */
typedef int jmp_buf;
#define setjmp(way) ((void)(way), 0)
#define longjmp(way, code) finish()
#else
#include <setjmp.h>
#include <signal.h>
#endif

#define NOINLINE __attribute__((noinline, noclone))
#define INLINE static inline __attribute__((always_inline))

enum colour { RED, GREEN = 5, BLUE };
enum flags { READ = 1, WRITE = 2, EXECUTE = 4 };

struct point {
    int x, y;
};

struct large {
    long values[8];
    struct point where;
};

struct node {
    struct node *next;
    const char *name;
    int number;
};

volatile int sink;
int counter;
static jmp_buf way_out;
static volatile int zero;

#ifdef FREESTANDING
__attribute__((noreturn)) static void finish(void)
{
    __asm__ volatile("int $0x80" : : "a"(1), "b"(0));
    __builtin_unreachable();
}
#endif

NOINLINE void stop_here(int scenario)
{
    sink = scenario;
}

/* Arguments of many types. */
NOINLINE int types(char letter, unsigned char byte, bool yes, short small, unsigned long big,
                   enum colour colour, enum flags flags, const char *text, void *address,
                   int (*function)(int), struct point point, struct large large, double real,
                   float single, long long negative)
{
    stop_here(1);
    sink += letter + byte + yes + small + (int)big + (int)colour + (int)flags + text[0];
    return sink + (int)large.values[0] + point.x + (int)real + (int)single + (int)negative +
           (address != 0) + (function != 0);
}

/* Recursion; the argument changes. */
NOINLINE int factorial(int n)
{
    if (n <= 1) {
        stop_here(2);
        return 1;
    }
    return n * factorial(n - 1);
}

/* Inlined copies within each other. */
INLINE int innermost(int depth, struct node *node)
{
    int doubled = 2 * depth;
    stop_here(3);
    return doubled + (node ? node->number : 0);
}

INLINE int middle(int depth, struct node *node)
{
    int found = 0;
    for (int i = 0; i < 2; i++) {
        int squared = depth * depth + i;
        found += innermost(squared, node);
    }
    return found;
}

NOINLINE int outer(int depth, struct node *list)
{
    int sum = middle(depth + 1, list->next);
    return sum + middle(depth + 2, list);
}

/* A parameter that the function needs no more, one that it changes, one that it keeps. */
NOINLINE int used_up(int gone, int changed, int kept)
{
    sink = gone;
    changed += 3;
    stop_here(4);
    sink = changed;
    stop_here(5);
    return kept;
}

NOINLINE int pass_on(int a, int b)
{
    return used_up(a + 1, b * 2, a ^ b) + 1;
}

/* What the caller knows of values that are constant. */
NOINLINE int caller_of_constants(void)
{
    return used_up(7, 8, 9) + 1;
}

/* A call through a pointer. */
NOINLINE int called_back(int value)
{
    stop_here(6);
    return value + 1;
}

NOINLINE int through_pointer(int (*function)(int), int value)
{
    return function(value + 1) + 1;
}

/* A tail call: its function leaves no frame. */
NOINLINE int last(int value, int other)
{
    stop_here(7);
    return value - other;
}

NOINLINE int jumps_to_last(int value)
{
    return last(value + 5, 2);
}

NOINLINE int calls_the_jumper(int value)
{
    return jumps_to_last(value * 3) + 1;
}

/* Two ways to the same function: which one was taken cannot be told. */
NOINLINE int either_left(int value)
{
    return last(value, 1);
}

NOINLINE int either_right(int value)
{
    return last(value, 3);
}

NOINLINE int either(int value)
{
    if (value & 1)
        return either_left(value);
    return either_right(value);
}

NOINLINE int calls_either(int value)
{
    return either(value) + 1;
}

/* A function that does not return: the call may be the last instruction of its caller. */
__attribute__((noreturn)) NOINLINE void leaves(int code)
{
    stop_here(8);
    longjmp(way_out, code);
}

NOINLINE int does_not_return(int code)
{
    if (code)
        leaves(code + 1);
    return 0;
}

/* A stack that moves. */
NOINLINE int with_alloca(int size)
{
    char *area = __builtin_alloca(size);
    for (int i = 0; i < size; i++)
        area[i] = (char)i;
    stop_here(9);
    return area[0];
}

NOINLINE int aligned(int value)
{
    int __attribute__((aligned(64))) cell = value;
    volatile int *where = &cell;
    stop_here(10);
    return *where;
}

#ifndef FREESTANDING
/* Signals: from a call, and from an instruction. */
static void on_signal(int signal)
{
    stop_here(11);
    counter += signal;
}

static void on_fault(int signal)
{
    stop_here(12);
    longjmp(way_out, signal);
}

NOINLINE int sends_signal(int signal)
{
    raise(signal);
    return counter;
}

NOINLINE int faults(int *where)
{
    return *where + 1;
}
#endif

/* Parts on the stack, and in registers. */
INLINE struct point mirrored(struct point point)
{
    struct point other = {point.y, point.x};
    stop_here(13);
    return other;
}

NOINLINE int structures(struct point first, struct node list[2])
{
    struct point other = mirrored(first);
    char text[] = "text";
    text[1] = (char)('a' + other.x);
    sink = text[1];
    stop_here(14);
    return other.x * 2 + other.y + list[1].number;
}

int main(int argc, char **argv)
{
    struct large large = {{1, 2, 3}, {4, 5}};
    struct node list[2] = {{&list[1], "first", 1}, {0, "second", 2}};
    int total = types('x', 200, true, -3, 4000000000UL, BLUE, READ | EXECUTE, "a string", &large,
                      called_back, (struct point){8, 9}, large, 1.5, -0.25f, -5);
    total += factorial(4);
    total += outer(argc, list);
    total += pass_on(argc, 20);
    total += caller_of_constants();
    total += through_pointer(called_back, argc);
    total += calls_the_jumper(argc);
    total += calls_either(argc);
    total += with_alloca(argc * 40);
    total += aligned(argc);
    total += structures((struct point){argc, 3}, list);
#ifndef FREESTANDING
    signal(SIGUSR1, on_signal);
    total += sends_signal(SIGUSR1);
    signal(SIGSEGV, on_fault);
    if (!setjmp(way_out))
        total += faults((int *)(long)zero);
#endif
    if (!setjmp(way_out))
        total += does_not_return(argc);
    sink = argv[0][0];
    return total == 12345;
}

#ifdef FREESTANDING
static char *arguments[] = {"frames"};

__attribute__((force_align_arg_pointer)) void _start(void)
{
    main(1, arguments);
    finish();
}
#endif
