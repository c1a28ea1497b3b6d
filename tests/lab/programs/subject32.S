/*
 * The i386 program under gdbserver: no library, so that it builds wherever gcc is for x86-64.
 *
 *   _start   loads the registers with known values
 *   filled   they are there: eax … edi hold their own x86 number in every byte, xmm0 greeting
 *   visit    called five times, counts in `watched`; then the program exits with 7
 */

        .macro function name
        .globl \name
        .type  \name, @function
\name:
        .endm

        .macro end name
        .size  \name, . - \name
        .endm

        .data
        .globl watched
        .type  watched, @object
        .size  watched, 4
watched:
        .long 0x1000
        .globl greeting
        .type  greeting, @object
        .size  greeting, 16
greeting:
        .ascii "sixteen bytes 32"

        .text
function _start
        movups greeting, %xmm0
        fninit
        fldpi
        movl $0x00000000, %eax
        movl $0x01010101, %ecx
        movl $0x02020202, %edx
        movl $0x03030303, %ebx
        movl $0x05050505, %ebp
        movl $0x06060606, %esi
        movl $0x07070707, %edi
end _start

function filled
        movl $5, %ecx
1:      call visit
        loop 1b
        movl $1, %eax                   /* exit(7), the i386 system call */
        movl $7, %ebx
        int  $0x80
end filled

function visit
        incl watched
        ret
end visit

        .section .note.GNU-stack, "", @progbits
