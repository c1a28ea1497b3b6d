#include "common.h"

extern int work(struct node *head, int count);
extern int fail(int code);
extern int plain(int), framed(int);

struct node head = { &head, &head, 0 };
static int counter = 3;
volatile int sink;

static int helper(int a, char *b)
{
	static int calls;
	calls += twice(a);
	return calls + b[0];
}

/* A comment before a function:
   there is no code on these lines. */
__attribute__((noinline)) int
many(int a, int b,
     int c)
{
	int sum = 0;

	for (int i = 0; i < a; i++) {
		int part = twice(i) + b;

		if (part > c)
			sink = fail(part);
		sum += part;
	}
	for (int i = 0; i < b; i++)
		sum ^= work(&head, i);
	return sum;
}

int one_line(int x) { return x + counter; }

void empty(void)
{
}

__attribute__((cold, noinline)) int give_up(int why)
{
	sink = why;
	return fail(why);
}

int maybe(int value)
{
	if (__builtin_expect(value > 100, 0)) {
		sink = value;
		give_up(value);
		sink++;
	}
	return twice(value) + many(value, 1, 2);
}

int main(void)
{
	static struct node first, second;
	char text[] = "x";

	add_node(&first, &head);
	add_node(&second, &head);
	counter = helper(many(1, 2, 3), text) + one_line(2) + maybe(sink);
	empty();
	counter += plain(1) + framed(2);
	return counter;
}

void _start(void)
{
	main();
	for (;;)
		;
}
