/* A program that is linked into one section, as boot loaders and small kernels are. */
struct node {
    struct node *next;
    int number;
};
struct node list = {&list, 3};
int counter = 7;
char label[] = "boot";
int *which = &counter;
int table[3] = {1, 2, 3};

__attribute__((noinline)) int here(int step) {
    counter += step;
    return counter + label[0] + table[1];
}

void _start(void) {
    for (;;)
        here(*which);
}
