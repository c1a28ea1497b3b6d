/*
 * A boot sector whose switch to protected mode cannot be found in memory before it is executed: the
 * instruction is put together right before. Then it counts in 32-bit code for ever.
 *
 *   hidden        mov %eax, %cr0, one byte of which is wrong until then
 *   in_protected  the first instruction of PROTECTED16 is before it, that of PROTECTED32 is it
 */
        .text
        .code16
        .globl _start
_start:
        cli
        xorw  %ax, %ax
        movw  %ax, %ds
        movw  $0xffff, %cx
1:      loop  1b                        /* more steps than are taken in any case */
        lgdtl gdt_pointer
        movl  %cr0, %eax
        orb   $1, %al
        xorb  $0xff, hidden + 1
        jmp   hidden
hidden:
        .byte 0x0f, 0x22 ^ 0xff, 0xc0
        ljmpl $8, $in_protected
        .code32
in_protected:
        incl  %ebx
        jmp   in_protected

        .balign 8
gdt:
        .quad 0
        .quad 0x00cf9a000000ffff
gdt_pointer:
        .word gdt_pointer - gdt - 1
        .long gdt

        .org  510
        .word 0xaa55
