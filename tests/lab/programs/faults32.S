/*
 * The i386 program for signals: without an argument it writes to address 0x14, with one it sends
 * itself SIGUSR1. No library, so that it builds wherever gcc is for x86-64.
 */
        .text
        .globl _start
_start:
        cmpl $1, (%esp)
        jne 1f
        movl $1, 0x14
1:      movl $20, %eax                  /* getpid() */
        int  $0x80
        movl %eax, %ebx
        movl $10, %ecx
        movl $37, %eax                  /* kill(…, SIGUSR1) */
        int  $0x80

        .section .note.GNU-stack, "", @progbits
