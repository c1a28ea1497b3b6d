/* Files that give the same names to different things; the labels are where the tests stop. */
#define STOP(label, ...) __asm__ volatile(".globl " #label "\n" #label ": nop" ::__VA_ARGS__ : "memory")

struct shape;
int first(int), second(int), third(int);
void here(void);
extern volatile int sink;
extern int hidden_global;
