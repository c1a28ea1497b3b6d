/* A kernel with a module whose code and data are in sections of their own, .probe.text and .probe.data, to be
   cut out of the file. TREE: whether the kernel finds modules by a tree. MEMORY: of the module, 1
   (module_core, before 4.5), 2 (core_layout), 3 (mem, from 6.4). NAMES: 0 without CONFIG_KALLSYMS,
   1 (in struct module, before 4.5), 2. ORC: whether the kernel unwinds by that, in the format of 6.4,
   whose header is HEADER. */

struct list_head { struct list_head *next, *prev; };
struct rb_node { unsigned long color; struct rb_node *rb_right, *rb_left; };
struct rb_root { struct rb_node *rb_node; };
struct latch_tree_node { struct rb_node node[2]; };
struct latch_tree_root { unsigned seq; struct rb_root tree[2]; };
struct mod_tree_node { struct module *mod; struct latch_tree_node node; };
#if TREE
#define NODE struct mod_tree_node mtn;
#define OF_PROBE .mtn = { .mod = &probe },
#else
#define NODE
#define OF_PROBE
#endif
struct module_layout { void *base; unsigned size, text_size; NODE };
struct module_memory { void *base; NODE unsigned size; };
enum mod_mem_type { MOD_TEXT, MOD_DATA, MOD_INIT_TEXT, MOD_MEM_NUM_TYPES };
struct symbol {
    unsigned name;
#ifdef __LP64__
    unsigned char info, other;
    unsigned short section;
    unsigned long value, size;
#else
    unsigned long value, size;
    unsigned char info, other;
    unsigned short section;
#endif
};
struct mod_kallsyms { struct symbol *symtab; unsigned num_symtab; char *strtab, *typetab; };
struct orc_entry { short sp_offset, bp_offset; unsigned short flags; };
struct mod_arch_specific {
#if ORC
    unsigned num_orcs;
    int *orc_unwind_ip;
    struct orc_entry *orc_unwind;
#endif
};
struct module {
    int state;
    struct list_head list;
    char name[56];
#if MEMORY == 1
    void *module_init, *module_core;
    unsigned init_size, core_size;
#elif MEMORY == 2
    struct module_layout core_layout, init_layout;
#else
    struct module_memory mem[MOD_MEM_NUM_TYPES];
#endif
    struct mod_arch_specific arch;
#if NAMES == 1
    struct symbol *symtab;
    unsigned num_symtab;
    char *strtab;
#elif NAMES == 2
    struct mod_kallsyms *kallsyms, core_kallsyms;
#endif
};

extern struct list_head modules;
extern struct module probe;
extern char code[], work[], extra[];
extern int ips[];
extern struct orc_entry entries[];

#define OF_MODULE __attribute__((section(".probe.data")))
OF_MODULE char names[] = "\0\0work\0alias\0extra\0nothing";
#define SYMBOL(at, in, of) { .name = at, .section = in, .value = (unsigned long)of }
OF_MODULE struct symbol symbols[] = {
    { 0 },
    SYMBOL(13, 1, extra),
    SYMBOL(1, 1, work),     /* without a name */
    SYMBOL(2, 1, work),
    SYMBOL(7, 1, work),     /* the same by another name */
    SYMBOL(19, 0, work + 5), /* of another module */
    SYMBOL(1, 1, work + 6),
    SYMBOL(19, 1, 0x10),    /* no address in it */
};
#define COUNT (sizeof symbols / sizeof *symbols)

OF_MODULE struct module probe = {
    .list = { &modules, &modules },
    .name = "probe",
#if MEMORY == 1
    .module_core = code, .core_size = 0x2000,
#elif MEMORY == 2
    .core_layout = { .base = code, .size = 0x2000, OF_PROBE },
#else
    .mem = { { .base = code, .size = 0x1000, OF_PROBE },
             { .base = code + 0x1000, .size = 0x1000,
#if TREE
               .mtn = { &probe, { { { 0 }, { 0, 0, &probe.mem[0].mtn.node.node[1] } } } },
#endif
             } },
#endif
#if ORC
    .arch = { 4, ips, entries },
#endif
#if NAMES == 1
    .symtab = symbols, .num_symtab = COUNT, .strtab = names,
#elif NAMES == 2
    .kallsyms = &probe.core_kallsyms, .core_kallsyms = { symbols, COUNT, names, 0 },
#endif
};

struct list_head modules = { &probe.list, &probe.list };
struct mod_tree_root {
#if TREE
    struct latch_tree_root root;
#endif
    unsigned long addr_min, addr_max;
} mod_tree = {
#if TREE && MEMORY == 2
    .root = { 0, { { &probe.core_layout.mtn.node.node[0] }, { 0 } } },
#elif TREE /* the first copy is being changed */
    .root = { 1, { { 0 }, { &probe.mem[1].mtn.node.node[1] } } },
#endif
};
enum mod_mem_type used;
char linux_banner[] = "Linux version 0.0";
int init_task;

void do_init_module(void)
{
}

#ifdef __LP64__
#define PC "rip"
#else
#define PC "eip"
#endif
asm(".section .probe.text, \"ax\"\n"
    ".globl code, work, extra\n"
    "code: .skip 4, 0x90\n"
    "work: .skip 16, 0x90\n"
    "extra: .skip 16, 0x90\n"
    "last:\n"
    ".section .probe.data, \"aw\"\n"
    ".globl ips, entries\n"
    "ips: .long code - ., work - ., extra - ., last - .\n"
    "entries:\n"
    ".short 8, 0, 0x205\n"    /* sp + 8, a call */
    ".short 24, -16, 0x215\n" /* sp + 24, bp at cfa - 16 */
    ".short 0, 0, 0x2ff\n"    /* there is no such register */
    ".short 0, 0, 0\n"
#if ORC
    ".section .orc_header, \"a\"\n"
    ".byte " HEADER "\n"
    ".section .orc_unwind_ip, \"a\"\n"
    ".long _text - .\n"
    ".section .orc_unwind, \"a\"\n"
    ".short 0, 0, 0\n"
#endif
    ".text\n"
    ".globl _text, caller, after\n"
    "_text: nop\n"
    ".type caller, @function\n"
    "caller: .cfi_startproc\n"
    ".cfi_undefined " PC "\n"
    "call _text\n"
    "after: nop\n"
    ".cfi_endproc\n"
    ".size caller, . - caller\n");
