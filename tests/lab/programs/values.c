/*
 * Values of every kind, for printing: stopped at `here`, all are as they are initialized, and
 * `fill` has set the rest.
 */

typedef __SIZE_TYPE__ size_type;
typedef unsigned char u8;
typedef signed char s8;
typedef unsigned int u32;
typedef u32 again_t;
typedef again_t once_more_t;
typedef __WCHAR_TYPE__ wchar_t;
typedef __CHAR16_TYPE__ char16_t;
typedef __CHAR32_TYPE__ char32_t;

enum color { RED, GREEN = 5, BLUE };
enum flags { F_A = 1, F_B = 2, F_C = 4, F_MANY = 0x30 };
enum zero_flags { Z_NONE = 0, Z_A = 1, Z_B = 8 };
enum sparse { S_A = 1, S_B = 5 };
enum overlap { O_A = 1, O_B = 3, O_C = 4 };
enum negative { N_MINUS = -3, N_ONE = 1 };
enum big { B_TOP = 0x8000000000000000ull, B_ONE = 1 };
typedef enum { T_X = 1, T_Y = 2 } choice_t;

enum color red = RED, blue = BLUE, strange = 77;
enum flags f0 = 0, f1 = F_A, f3 = F_A | F_B, f9 = F_A | 8, f8 = 8, f_many = 0x31, f_part = 0x10;
enum zero_flags z0 = Z_NONE, z9 = Z_A | Z_B, z4 = 4;
enum sparse s4 = 4, s5 = S_B;
enum overlap o7 = 7, o2 = 2;
enum negative n3 = N_MINUS, n2 = 2, n_other = -7;
enum big big_top = B_TOP, big_other = 0x8000000000000001ull;
choice_t choice = T_X | T_Y;

char c_a = 'A', c_nul = 0, c_quote = '\'', c_double = '"', c_back = '\\', c_high = (char)0xe9;
char c_tab = '\t', c_esc = 27, c_del = 127;
u8 u8_7 = 7, u8_200 = 200;
s8 s8_minus = -5;
short short_minus = -12345;
unsigned short ushort = 65535;
int int_minus = -2147483647 - 1;
unsigned int uint = 4294967295u;
long long longlong = -9223372036854775807ll - 1;
unsigned long long ulonglong = 18446744073709551615ull;
once_more_t typedefs = 1234567890;
_Bool yes = 1, no = 0;
u8 odd_bool_bytes[2] = {2, 1};
float f_pi = 3.14159274f, f_tenth = 0.1f, f_big = 1e30f, f_small = 1e-40f, f_minus0 = -0.0f;
double d_tenth = 0.1, d_third = 1.0 / 3, d_million = 1e6, d_huge = 1.7976931348623157e308;
double d_inf = __builtin_inf(), d_minus_inf = -__builtin_inf(), d_nan = __builtin_nan("");
double d_nan_payload = __builtin_nan("0x123"), d_16 = 1e16, d_17 = 1e17, d_small = 5e-324;
float f_nan = __builtin_nanf("5");
long double ld_tenth = 0.1L, ld_huge = 1e4000L, ld_one = 1.0L, ld_nan = __builtin_nanl("");
long double ld_inf = -__builtin_infl(), ld_tiny = 3.6e-4951L;
u8 ld_invalid_bytes[16] = {0, 0, 0, 0, 0, 0, 0, 1, 1, 0x40};
_Complex double z_complex = 1.5 - 2.5i;
_Complex float z_single = 0.5f;
#ifdef __LP64__
__int128 wide = -((__int128)1 << 100);
unsigned __int128 uwide = ~(unsigned __int128)0;
#endif
__float128 quad = 0.1Q;
int vector __attribute__((vector_size(16))) = {1, -2, 3, 4};
const volatile int const_volatile = 42;

char text[] = "hello";
char text_padded[64] = "hi";
char text_short[8] = "hi";
char text_exact[5] = {'e', 'x', 'a', 'c', 't'};
char text_empty[4] = "";
char text_nuls[30] = "";
char text_embedded[12] = "ab\0cd";
char text_escapes[] = "tab\t nl\n quote\" back\\ bell\a esc\033" "7 del\177 \001" "2";
char text_repeats[] = "aaaaaaaaaaaaaaaaaaaabcdddddddddddde";
char text_quotes[] = "''''''''''''\"\"\"\"\"\"\"\"\"\"\"\"";
char text_utf8[] = "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80";
char text_bad_utf8[] = "a\xff\xfe" "b\xc3(\xe2\x82";
char text_cut_utf8[4] = {'a', 'b', '\xe2', '\x82'};
char text_private[] = "\xee\x84\xbb \xc2\xa0 \xe2\x80\xae \xc2\x83";
char text_high_run[] = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff";
char text_ten[] = "0000000000111111111112222222222";
char text_long[400];
char text_200[201];
char text_runs[600];
char text_2d[3][6] = {"one", "two", "three"};
u8 bytes[8] = {1, 2, 3, 0x80, 0xff, 0, 65, 66};
s8 signed_bytes[3] = {-1, 0, 1};
const char *name = "a name", *empty = "", *null_name, *wild_name = (char *)16;
const char *long_name = text_long, *name_200 = text_200;
u8 *byte_pointer = bytes;
void *untyped = text;
char **names = (char *[]){"first", "second", 0};
char *name_array[4] = {"x", "yy", 0, "x"};
wchar_t wide_text[] = L"wide \x20ac" L"12 g\x00fc";
wchar_t wide_char = 0x20ac, *wide_pointer = wide_text;
char16_t text16[] = u"sixteen \xd83d\xde00";
char16_t char16 = 'x';
char32_t text32[8] = U"32";

int numbers[5] = {1, 2, 3, 4, 5};
int repeats[40] = {1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3};
int ten[22] = {7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 9};
int longer[300];
int zeros[1000];
int matrix[2][3] = {{1, 2, 3}, {4, 5, 6}};
int cube[2][2][2] = {{{1, 2}, {3, 4}}, {{5, 6}, {7, 8}}};
int grid[30][30];
int flat[300][2];
double doubles[3] = {1, 2.5, -3};
enum color colors[3] = {RED, GREEN, BLUE};
void *pointers[3];
struct pair { int a, b; } pairs[15] = {{1, 2}, {1, 2}, {3, 4}};
struct pair pair_lists[2][2] = {{{1, 2}, {3, 4}}, {{5, 6}, {7, 8}}};

struct bits {
    int a : 3;
    unsigned b : 9;
    long long c : 33;
    _Bool d : 1;
    enum color e : 4;
    enum flags f : 6;
    char g : 7;
    int : 3;
    signed char h : 2;
    unsigned long long i : 50;
} bits = {-2, 300, -1234567890123ll >> 9, 1, BLUE, F_A | F_C, 'x', -1, 0x3ffffffffffffull};

struct outer {
    int first;
    struct { int x, y; struct { char deep; union { int i; float f; }; }; };
    union { int whole; char part[4]; } u;
    struct pair inner;
    struct pair list[2];
    const char *label;
    struct outer *next;
    int (*call)(int, char *);
    void (*none)(void);
    void *data;
    struct undefined *opaque;
    struct {} nothing;
    enum flags state;
    float ratio;
    _Bool set;
    char code;
    u8 mac[6];
    int last;
};

int called(int number, char *word) { return number + word[0]; }
static void quiet(void) {}
struct outer outer = {
    .first = 1, .x = 2, .y = 3, .deep = 'd', .i = 0x40490fdb, .u = {0x41424344},
    .inner = {5, 6}, .list = {{7, 8}, {9, 10}}, .label = "label", .call = called, .state = F_B,
    .ratio = 0.5f, .set = 1, .code = '\n', .mac = {0, 0x1b, 0x21, 0xff, 1, 2}, .last = 99,
};
struct outer *outer_pointer = &outer;
struct undefined;
struct undefined *opaque;
struct {} nothing;
struct { int n; int flexible[]; } flexible = {2, {11, 22}};
struct { int n; char flexible[]; } flexible_text = {2, "flex"};
struct zero_length { int n; int none[0]; struct pair more[0]; } zero_length = {3};
union number { int i; float f; unsigned char raw[4]; struct pair *p; } number = {0x3f800000};
struct list { struct list *next, *prev; } list = {&list, &list};

struct deep0 { int v; };
#define DEEP(n, m) struct deep##n { struct deep##m d; int v; }
DEEP(1, 0); DEEP(2, 1); DEEP(3, 2); DEEP(4, 3); DEEP(5, 4); DEEP(6, 5); DEEP(7, 6); DEEP(8, 7);
DEEP(9, 8); DEEP(10, 9); DEEP(11, 10); DEEP(12, 11); DEEP(13, 12); DEEP(14, 13); DEEP(15, 14);
DEEP(16, 15); DEEP(17, 16); DEEP(18, 17); DEEP(19, 18); DEEP(20, 19); DEEP(21, 20); DEEP(22, 21);
struct deep22 deep;
struct { struct { struct { struct deep18 d; }; }; } deep_anonymous;
struct { char text[3]; struct deep18 d; } deep_text;
struct holder { struct { struct deep18 d; } a; struct pair p; } holder;

int (*function)(int, char *) = called;
void (*function_null)(void);
void (*functions[3])(void) = {quiet, 0, quiet};
int *to_number = &numbers[2], *to_null, *to_wild = (int *)0x10;
struct pair *to_pair = &pairs[2];
int (*to_array)[5] = &numbers;
struct outer **to_pointer = &outer_pointer;
const char *const constant = "const";
typedef struct pair *pair_pointer_t;
pair_pointer_t typedef_pointer = pairs;
typedef char *string_t;
string_t typedef_string = text;
typedef char letter_t;
letter_t *letters = text;
size_type a_size = sizeof(struct outer);
struct { char *good, *bad; u8 *raw; wchar_t *wide; char *past; } strings = {
    "good", (char *)1, bytes, wide_text, 0,
};
int *heap_like = (int *)0x7000000000;
extern int declared_only;
static int hidden = 6;
int big_array[40000];

static void fill(void)
{
    for (int i = 0; i < 399; i++)
        text_long[i] = (char)('a' + i % 26);
    for (int i = 0; i < 200; i++)
        text_200[i] = (char)('a' + i % 26);
    for (int i = 0; i < 600; i++)
        text_runs[i] = (char)('a' + i / 30);
    for (int i = 0; i < 300; i++)
        longer[i] = i;
    for (int i = 0; i < 900; i++)
        grid[i / 30][i % 30] = i;
    for (int i = 0; i < 600; i++)
        flat[i / 2][i % 2] = i;
    for (int i = 0; i < 40000; i++)
        big_array[i] = i;
    pointers[1] = &pairs[3];
    outer.next = &outer;
    outer.data = &outer.inner;
    deep.v = 22;
}

__attribute__((noinline)) void here(void)
{
    asm volatile("");
}

#ifdef FREESTANDING
void *memset(void *to, int byte, size_type count)
{
    for (size_type i = 0; i < count; i++)
        ((volatile char *)to)[i] = (char)byte;
    return to;
}
void _start(void)
#else
int main(void)
#endif
{
    fill();
    here();
    quiet();
    hidden++;
    for (;;)
        here();
}
