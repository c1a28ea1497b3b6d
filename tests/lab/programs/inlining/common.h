struct node { struct node *next, *prev; int value; };

static inline void link_nodes(struct node *node, struct node *prev, struct node *next)
{
	next->prev = node;
	node->next = next;
	node->prev = prev;
	prev->next = node;
}

static inline void add_node(struct node *node, struct node *head)
{
	if (node->value < 0)
		return;
	link_nodes(node, head, head->next);
}

static inline int twice(int value) { return value * 2; }
