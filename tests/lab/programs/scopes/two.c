#include "scopes.h"

static int count = 12;
static char *name = "two";
int global = 1000;
enum { GREEN = 20, RED, only_two, special = 200 };
struct shape { char two[3]; } b_shape = {"ab"};
typedef long number;
number b_number = 6;
int hidden_global = 5;

static int __attribute__((noinline)) twice(int x)
{
    static int calls = 2;
    calls += x * 2;
    return calls + count;
}

int __attribute__((noinline)) second(int n)
{
    static int kept = 32;
    int global = n, rest;
    count += n;
    kept += count;
    STOP(in_second, "r"(&global));
    here();
    rest = twice(n) + kept + global + name[0] + special + RED + only_two + hidden_global;
    return third(n) + rest;
}
