/* A stack of many frames. */
int depth;

__attribute__((noinline)) void bottom(void) { depth++; }

__attribute__((noinline)) int down(int left) {
    if (left)
        return down(left - 1) + left;
    bottom();
    return depth;
}

int main(void) { return down(4500) & 1; }
