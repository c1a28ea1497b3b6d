/* Tasks of a kernel in the structures that there have been for them, a macro says which: OLD 1
   (thread_group, the CPU at the bottom of the stack: before 3.14), 2 (thread_node, state), 3
   (__state, cpu and thread_info in the task). A kernel's thread, a process of three threads, and one that has
   ended. */

struct list_head { struct list_head *next, *prev; };

#if OLD < 3
struct thread_info { struct task_struct *task; unsigned flags, cpu; };
union thread_union { struct thread_info thread_info; unsigned long stack[64]; };
#else
struct thread_info { unsigned long flags; unsigned cpu; };
#endif

struct signal_struct { int nr_threads; struct list_head thread_head; };

struct task_struct {
#if OLD == 3
    struct thread_info thread_info;
    unsigned __state;
#else
    volatile long state;
#endif
    void *stack;
    unsigned flags;
    int on_cpu;
    long between[100];
    struct list_head tasks;
    int exit_state, pid, tgid;
    struct task_struct *real_parent, *group_leader;
#if OLD > 1
    struct list_head thread_node;
#else
    struct list_head thread_group;
#endif
    char comm[16];
    struct signal_struct *signal;
};

extern struct task_struct init_task, kthreadd, leader, second, third, ended;

struct signal_struct of_init, of_kthreadd, of_leader, of_ended;

#if OLD < 3
union thread_union stacks[6] = {
    { { &init_task, 0, 0 } }, { { &kthreadd, 0, 1 } }, { { &leader, 0, 2 } },
    { { &second, 0, 3 } },    { { &third, 0, 1 } },    { { &ended, 0, 0 } },
};
#define CPU(n, number) .stack = &stacks[n],
#define STATE(number) .state = number,
#else
#define CPU(n, number) .thread_info = { 0, number },
#define STATE(number) .__state = number,
#endif

#if OLD > 1
#define ALONE(task, sig) .thread_node = { &sig.thread_head, &sig.thread_head }, .signal = &sig,
#define THREAD(after, before) .thread_node = { after, before }, .signal = &of_leader,
#define NODE thread_node
#define HEAD of_leader.thread_head
#else
#define ALONE(task, sig) .thread_group = { &task.thread_group, &task.thread_group }, .signal = &sig,
#define THREAD(after, before) .thread_group = { after, before }, .signal = &of_leader,
#define NODE thread_group
#endif

struct task_struct init_task = {
    STATE(0) CPU(0, 0) .on_cpu = 1, .flags = 0x200000,
    .tasks = { &kthreadd.tasks, &ended.tasks }, .real_parent = &init_task,
    .group_leader = &init_task, ALONE(init_task, of_init) .comm = "swapper",
};
struct task_struct kthreadd = {
    STATE(0x402) CPU(1, 1) .flags = 0x200000, .pid = 2, .tgid = 2,
    .tasks = { &leader.tasks, &init_task.tasks }, .real_parent = &init_task,
    .group_leader = &kthreadd, ALONE(kthreadd, of_kthreadd) .comm = "kthreadd",
};
struct task_struct leader = {
    STATE(1) CPU(2, 2) .pid = 10, .tgid = 10,
    .tasks = { &ended.tasks, &kthreadd.tasks }, .real_parent = &init_task, .group_leader = &leader,
#if OLD > 1
    THREAD(&second.NODE, &HEAD)
#else
    THREAD(&second.NODE, &third.NODE)
#endif
    .comm = "fifteen-letters",
};
struct task_struct second = {
    STATE(2) CPU(3, 3) .pid = 11, .tgid = 10,
    .real_parent = &init_task, .group_leader = &leader, THREAD(&third.NODE, &leader.NODE)
    .comm = "second",
};
struct task_struct third = {
    STATE(0) CPU(4, 1) .on_cpu = 1, .pid = 12, .tgid = 10,
    .real_parent = &init_task, .group_leader = &leader,
#if OLD > 1
    THREAD(&HEAD, &second.NODE)
#else
    THREAD(&leader.NODE, &second.NODE)
#endif
    .comm = "\xff third",
};
struct task_struct ended = {
    STATE(0) CPU(5, 0) .exit_state = 0x20, .pid = 13, .tgid = 13,
    .tasks = { &init_task.tasks, &leader.tasks }, .real_parent = &leader, .group_leader = &ended,
    ALONE(ended, of_ended) .comm = "ended",
};

struct signal_struct of_init = { 1, { 0, 0 } };
struct signal_struct of_kthreadd = { 1, { 0, 0 } };
struct signal_struct of_ended = { 1, { 0, 0 } };
#if OLD > 1
struct signal_struct of_leader = { 3, { &leader.NODE, &third.NODE } };
#else
struct signal_struct of_leader = { 3, { 0, 0 } };
#endif

char linux_banner[] = "Linux version 0.0";

void _start(void)
{
    __builtin_trap(); /* it ends when it is let go */
}
