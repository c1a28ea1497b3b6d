#include "common.h"

static int counter = 4;
extern volatile int sink;

__attribute__((noinline)) static int helper(int a)
{
	return a * counter++;
}

int fail(int code)
{
	sink = code;
	return -helper(code);
}

int work(struct node *head, int count)
{
	struct node extra = { 0, 0, count };

	add_node(&extra, head);
	if (extra.next)
		link_nodes(&extra, head, head->next);
	return twice(count) + helper(head->value) + helper(1);
}
