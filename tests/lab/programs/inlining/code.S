#ifdef __x86_64__
#define REGISTER(name) %r##name
#else
#define REGISTER(name) %e##name
#endif

	.text
	.globl plain, framed
	.type plain, @function
	.type framed, @function
plain:
	mov $1, %eax
	ret
	.size plain, . - plain

framed:
	push REGISTER(bp)
	mov REGISTER(sp), REGISTER(bp)
	mov $1, %eax
	pop REGISTER(bp)
	ret
	.size framed, . - framed
	.section .note.GNU-stack,"",@progbits
