/* A program to step through: inlined functions, recursion, loops on one line, calls through
   pointers and of functions without line numbers. It needs no library. */

extern long bare(long value);
extern long bare_calls(long (*function)(long), long value);

volatile long sink;

static inline __attribute__((always_inline)) long twice(long value)
{
    sink = value;
    return value * 2;
}

static inline __attribute__((always_inline)) long four_times(long value)
{
    long half = twice(value);
    sink = half;
    return twice(half);
}

static __attribute__((noinline)) long add(long left, long right)
{
    long sum = left + right;
    sink = sum;
    return sum;
}

static __attribute__((noinline)) long seven(void)
{
    sink = 7;
    return sink;
}

static __attribute__((noinline)) long factorial(long n)
{
    if (n <= 1)
        return 1;
    long rest = factorial(n - 1);
    return n * rest;
}

static __attribute__((noinline)) long fibonacci(long n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }

static __attribute__((noinline)) signed char narrow(long value)
{
    sink = value;
    return (signed char)value;
}

static __attribute__((noinline)) unsigned short wide(long value)
{
    sink = value;
    return (unsigned short)value;
}

enum colour { RED, GREEN, BLUE };

static __attribute__((noinline)) enum colour paint(long value)
{
    sink = value;
    return value > 1 ? BLUE : GREEN;
}

static __attribute__((noinline)) volatile long *where(long value)
{
    sink = value;
    return &sink;
}

static __attribute__((noinline)) _Bool odd(long value)
{
    sink = value;
    return value & 1;
}

static __attribute__((noinline)) void nothing(void)
{
    sink = 0;
}

struct pair {
    long left, right, sum;
};

static __attribute__((noinline)) struct pair both(long value)
{
    struct pair result = { value, value + 1, add(value, value + 1) };
    return result;
}

static __attribute__((noinline)) long loops(long count)
{
    long total = 0;
    for (long i = 0; i < count; i++) total += add(i, sink);
    for (long i = 0; i < count; i++) {
        total += twice(i);
        sink = total;
    }
    while (total > 100)
        total -= 7;
    return total;
}

static __attribute__((noinline)) long choose(long value)
{
    switch (value) {
    case 1:
        sink = 1;
        break;
    case 2:
        sink = four_times(2);
        break;
    default:
        sink = twice(value);
    }
    return value;
}

static __attribute__((noinline)) long tail(long value)
{
    sink = value;
    return add(value, 1);
}

static long (*volatile pointer)(long) = factorial;

int run(void)
{
    long total = 0;
    total += four_times(sink + 1);
    total += add(total, twice(3));
    total += factorial(4);
    total += fibonacci(3);
    total += narrow(0x1ff);
    total += wide(0x12345);
    total += paint(total);
    total += *where(5);
    total += odd(3);
    nothing();
    total += pointer(3);
    total += bare(total);
    total += bare_calls(factorial, 2);
    total += loops(3);
    total += choose(1) + choose(2) + choose(3);
    total += both(7).sum;
    total += tail(8);
    total += twice(seven());
    sink = add(add(1, 2), add(3, 4));
    total += twice(total), total += four_times(total);
    return (int)(total & 0x3f);
}
