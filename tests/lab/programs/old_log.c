/* The kernel's log in the forms that it has had, empty: the tests fill it. Which form, a macro says:
   PRB (from 5.10), RECORDS (3.5 to 5.9, 1 to 3 in steps), or none (before). */

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

char linux_banner[] = "Linux version 0.0";
int init_task;

#ifdef PRB
#define COUNT_BITS 3
#define SIZE_BITS 8

typedef struct { long counter; } atomic_long_t;

struct prb_data_blk_lpos { unsigned long begin, next; };
struct prb_desc { atomic_long_t state_var; struct prb_data_blk_lpos text_blk_lpos; };
struct dev_printk_info { char subsystem[16]; char device[48]; };
struct printk_info {
    u64 seq, ts_nsec;
    u16 text_len;
    u8 facility, flags : 5, level : 3;
    u32 caller_id;
    struct dev_printk_info dev_info;
};
struct prb_data_ring { unsigned size_bits; char *data; atomic_long_t head_lpos, tail_lpos; };
struct prb_desc_ring {
    unsigned count_bits;
    struct prb_desc *descs;
    struct printk_info *infos;
    atomic_long_t head_id, tail_id;
};
struct printk_ringbuffer {
    struct prb_desc_ring desc_ring;
    struct prb_data_ring text_data_ring;
    atomic_long_t fail;
};

struct prb_desc the_descs[1 << COUNT_BITS];
struct printk_info the_infos[1 << COUNT_BITS];
char the_text[1 << SIZE_BITS];
struct printk_ringbuffer printk_rb_static = {
    .desc_ring = { COUNT_BITS, the_descs, the_infos, { 0 }, { 0 } },
    .text_data_ring = { SIZE_BITS, the_text, { 0 }, { 0 } },
};
struct printk_ringbuffer *prb = &printk_rb_static;

#else

char __log_buf[512];
char *log_buf = __log_buf;

#ifdef RECORDS
#if RECORDS == 1
struct log { u64 ts_nsec; u16 len, text_len, dict_len, level; } first_of_all;
#elif RECORDS == 2
struct printk_log {
    u64 ts_nsec;
    u16 len, text_len, dict_len;
    u8 facility, flags : 5, level : 3;
} first_of_all;
#else
struct printk_log {
    u64 ts_nsec;
    u16 len, text_len, dict_len;
    u8 facility, flags : 5, level : 3;
    u32 caller_id;
} __attribute__((packed, aligned(4))) first_of_all;
#endif
#if RECORDS < 3
int syslog_prev;
#endif
u32 log_buf_len = sizeof __log_buf;
u32 log_first_idx, log_next_idx;

#else
int log_buf_len = sizeof __log_buf;
unsigned log_end;
int logged_chars;
#endif
#endif

void _start(void)
{
    __builtin_trap(); /* it ends when it is let go */
}
