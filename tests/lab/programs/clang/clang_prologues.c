/* clang -g1 -O2 -fno-addrsig -fdebug-compilation-dir=. -S clang_prologues.c */
struct node { int x; struct node *next; };
static int counter;
int other(struct node *n, const char *what);
__attribute__((noinline)) int visit(struct node *n, int depth)
{
    int local = depth + n->x;
    counter += local;
    if (depth > 2)
        return other(n, "deep") + local;
    return visit(n, depth + 1) + local;
}
__attribute__((noinline)) int other(struct node *n, const char *what)
{
    volatile int letter = what[0];
    counter++;
    return letter;
}
int step(int) __asm__("step.llvm.8812");
__attribute__((noinline)) int step(int by)
{
    volatile char kept[256];
    for (int i = 0; i < by; i++)
        kept[i] = other(0, "x");
    return kept[by];
}
int _start(int argc)
{
    struct node node = {1, 0};
    return visit(&node, argc) + step(argc);
}
