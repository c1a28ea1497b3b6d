#include "scopes.h"

static int count = 11;
static const int folded = 111;
static int never_changed = 77;
static int written_only;
static int *never_moved = &count;
enum { RED = 1, GREEN, only_one, special = 100 };
enum level { LOW = -1, HIGH = 5 };
struct shape { int one; long x; } a_shape = {1, 2};
typedef short number;
number a_number = 5;
enum level a_level = LOW;

static int __attribute__((noinline)) twice(int x)
{
    static int calls = 1;
    calls += x;
    return calls + count;
}

static inline __attribute__((always_inline)) int inlined(int count_in)
{
    static int kept = 21;
    int local = count_in * 3;
    kept += local;
    sink += kept;
    {
        int count = local + kept;
        STOP(in_inlined, "r"(&count));
        here();
        sink += count;
    }
    return local + kept;
}

static inline __attribute__((always_inline)) int not_entered(int before)
{
    int shadow = before + sink;
    return shadow * 2;
}

int first(int n)
{
    static int kept = 31, count_of_first = 5;
    int shadow = n;
    count += n;
    kept += count;
    written_only = n;
    count_of_first += n;
    {
        static int kept = 41, nested_only = 51;
        enum { INNER = 8, RED = 9 };
        struct shape { char c; } shape = {RED};
        enum level level = HIGH;
        kept += shadow + nested_only++;
        STOP(in_block, "r"(&level), "r"(&shape));
        here();
        sink += kept + INNER;
    }
    {
        static int twofold = 61;
        sink += twofold++;
    }
    {
        static int twofold = 62;
        sink += twofold++;
    }
    STOP(before_copy, "r"(&shadow));
    sink += not_entered(n) + shadow;
    sink += special + RED + GREEN + only_one + never_changed + *never_moved + folded + written_only;
    return twice(n) + inlined(n) + kept + count_of_first;
}
