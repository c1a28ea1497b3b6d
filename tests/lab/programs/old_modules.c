/* Three modules of a kernel in the structures that there have been for them: of their memory, MEMORY 1
   (module_core, before 4.5), 2 (core_layout), 3 (mem, from 6.4); of their sections, SECTIONS 1 (a name
   each, before 5.8), 2 (binary attributes), 3 and 4 (a list that ends with a null pointer, from 6.14).
   The second module is without sections, and the third about to start. */

typedef unsigned int u32;

struct list_head { struct list_head *next, *prev; };
struct attribute { const char *name; unsigned short mode; };
struct bin_attribute { struct attribute attr; unsigned long size; void *private; };
struct attribute_group { const char *name; struct bin_attribute **bin_attrs; };
struct group_of_6_14 { const char *name; struct bin_attribute *const *bin_attrs_new; };

#if SECTIONS == 1
struct module_attribute { struct attribute attr; void *show; };
struct module_sect_attr { struct module_attribute mattr; char *name; unsigned long address; };
#define ATTR(text, at) { .mattr = { { text, 0 }, 0 }, .name = text, .address = at }
#else
struct module_sect_attr { struct bin_attribute battr; unsigned long address; };
#define ATTR(text, at) { .battr = { { text, 0 }, 0, 0 }, .address = at }
#endif

#if SECTIONS < 3
struct module_sect_attrs {
    struct attribute_group grp;
    unsigned nsections;
    struct module_sect_attr attrs[];
};
#elif SECTIONS == 3
struct module_sect_attrs { struct attribute_group grp; struct bin_attribute attrs[]; };
#else
struct module_sect_attrs { struct group_of_6_14 grp; struct bin_attribute attrs[]; };
#endif

struct kernel_param_ops { u32 flags; void *set; };
struct kparam_string { u32 maxlen; char *string; };
struct kparam_array {
    u32 max, elemsize;
    u32 *num;
    const struct kernel_param_ops *ops;
    void *elem;
};
struct kernel_param {
    const char *name;
    const struct kernel_param_ops *ops;
    union { void *arg; const struct kparam_string *str; const struct kparam_array *arr; };
};

const struct kernel_param_ops param_ops_int = { 1, 0 }, param_ops_uint = { 1, 0 },
    param_ops_byte = { 1, 0 }, param_ops_short = { 1, 0 }, param_ops_long = { 1, 0 },
    param_ops_ullong = { 1, 0 }, param_ops_hexint = { 1, 0 }, param_ops_bool = { 1, 0 },
    param_ops_invbool = { 1, 0 }, param_ops_bint = { 1, 0 }, param_ops_charp = { 1, 0 },
    param_ops_string = { 1, 0 }, param_array_ops = { 1, 0 }, its_own_ops = { 1, 0 };

static int minus = -5, yes = 1, list[4] = { 1, -2, 3, 4 };
static unsigned many = 4000000000u, used = 3, hex = 0xbeef;
static unsigned char byte = 200;
static short small = -300;
static long large = -70000;
static unsigned long long huge = 18446744073709551615ull;
static char no, *text = "some text", *none, buffer[8] = "eth0";
static const struct kparam_string string = { 8, buffer };
static const struct kparam_array array = { 4, sizeof(int), &used, &param_ops_int, list };
static const struct kparam_array whole = { 4, sizeof(int), 0, &param_ops_int, list };

const struct kernel_param parameters[] = {
    { "minus", &param_ops_int, { &minus } },     { "many", &param_ops_uint, { &many } },
    { "byte", &param_ops_byte, { &byte } },      { "small", &param_ops_short, { &small } },
    { "large", &param_ops_long, { &large } },    { "huge", &param_ops_ullong, { &huge } },
    { "hex", &param_ops_hexint, { &hex } },      { "yes", &param_ops_bool, { &yes } },
    { "no", &param_ops_bool, { &no } },          { "inverse", &param_ops_invbool, { &yes } },
    { "bint", &param_ops_bint, { &yes } },       { "text", &param_ops_charp, { &text } },
    { "none", &param_ops_charp, { &none } },     { "string", &param_ops_string, { (void *)&string } },
    { "first.array", &param_array_ops, { (void *)&array } },
    { "whole", &param_array_ops, { (void *)&whole } },
    { "own", &its_own_ops, { &minus } },
};

enum module_state { MODULE_STATE_LIVE, MODULE_STATE_COMING, MODULE_STATE_GOING };

enum mod_mem_type {
    MOD_TEXT, MOD_DATA, MOD_RODATA, MOD_RO_AFTER_INIT, MOD_INIT_TEXT, MOD_INIT_DATA,
    MOD_INIT_RODATA, MOD_MEM_NUM_TYPES,
};
struct module_memory { void *base; unsigned size; };
struct module_layout { void *base; unsigned size, text_size; };

struct module {
    enum module_state state;
    struct list_head list;
    char name[56];
    const struct kernel_param *kp;
    unsigned num_kp;
    int (*init)(void);
#if MEMORY == 1
    void *module_init, *module_core;
    unsigned init_size, core_size;
#define PLACE(core, size, first, length) \
    .module_core = (void *)core, .core_size = size, .module_init = (void *)first, .init_size = length
#elif MEMORY == 2
    struct module_layout core_layout, init_layout;
#define PLACE(core, size, first, length) \
    .core_layout = { (void *)core, size, 0 }, .init_layout = { (void *)first, length, 0 }
#else
    struct module_memory mem[MOD_MEM_NUM_TYPES];
#define PLACE(core, size, first, length)                                               \
    .mem = { [MOD_TEXT] = { (void *)core, size - 0x1000 }, [MOD_DATA] = { (void *)(core + 0x10000), 0x1000 }, \
             [MOD_INIT_TEXT] = { (void *)first, length } }
#endif
    struct module_sect_attrs *sect_attrs;
    void *percpu;
};

extern struct list_head modules;
extern struct module first_module, second_module, third_module;

unsigned char note[] = { 4, 0, 0, 0, 8, 0, 0, 0, 3, 0, 0, 0, 'G', 'N', 'U', 0,
                         1, 2, 3, 4, 5, 6, 7, 8 };

#if SECTIONS < 3
struct module_sect_attrs first_sections = {
    .nsections = 3,
    .attrs = { ATTR(".text", 0x1000), ATTR(".init.text", 0x5000),
               ATTR(".note.gnu.build-id", (unsigned long)note) },
};
struct module_sect_attrs third_sections = {
    .nsections = 2, .attrs = { ATTR(".text", 0x3000), ATTR(".init.text", 0x5000) },
};
#else
#define BINARY(text, at) { { text, 0 }, 0, (void *)at }
struct module_sect_attrs first_sections, third_sections;
static struct bin_attribute of_first[] = {
    BINARY(".text", 0x1000), BINARY(".init.text", 0x5000), BINARY(".note.gnu.build-id", note),
};
static struct bin_attribute of_third[] = { BINARY(".text", 0x3000), BINARY(".init.text", 0x5000) };
static struct bin_attribute *first_list[] = { of_first, of_first + 1, of_first + 2, 0 };
static struct bin_attribute *third_list[] = { of_third, of_third + 1, 0 };
#if SECTIONS == 3
#define LIST bin_attrs
#else
#define LIST bin_attrs_new
#endif
struct module_sect_attrs first_sections = { .grp = { "sections", .LIST = first_list } };
struct module_sect_attrs third_sections = { .grp = { "sections", .LIST = third_list } };
#endif

char linux_banner[] = "Linux version 0.0";
int init_task;

void do_init_module(void)
{
}

static int start(void)
{
    return 0;
}

struct module first_module = {
    MODULE_STATE_LIVE, { &second_module.list, &modules }, "first", parameters,
    sizeof parameters / sizeof *parameters, start, PLACE(0x1000, 0x4000, 0, 0),
    .sect_attrs = &first_sections, .percpu = (void *)0x20,
};
struct module second_module = {
    MODULE_STATE_GOING, { &third_module.list, &first_module.list }, "second", 0, 0, 0,
    PLACE(0x2000, 0x2000, 0, 0),
};
struct module third_module = {
    MODULE_STATE_COMING, { &modules, &second_module.list }, "third", 0, 0, start,
    PLACE(0x3000, 0x3000, 0x5000, 0x1000),
    .sect_attrs = &third_sections,
};
struct list_head modules = { &first_module.list, &third_module.list };

void _start(void)
{
    __builtin_trap(); /* it ends when it is let go */
}
