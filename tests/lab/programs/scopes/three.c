volatile int sink;
static int hidden_global = 3;
static unsigned long name = 0x33;
enum global_names { global = 7 } a_global_name = global;

void __attribute__((noinline)) here(void);
void __attribute__((noinline)) here(void)
{
    __asm__ volatile(".globl in_here\nin_here: nop" ::: "memory");
}

int __attribute__((noinline)) third(int);
int __attribute__((noinline)) third(int n)
{
    static int count = 13;
    count += n;
    hidden_global += n;
    name += n;
    __asm__ volatile(".globl in_third\nin_third: nop" ::: "memory");
    here();
    return count + hidden_global + name;
}
