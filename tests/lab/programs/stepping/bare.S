/* Where the program begins and ends, and functions that have symbols and no line numbers. */

/* Without tables gdb 13 finds callers in such code on x86-64 only. */
#ifdef __x86_64__
#define BEGIN
#define END
#else
#define BEGIN   .cfi_startproc
#define END     .cfi_endproc
#endif

        .text
        .globl  _start
        .type   _start, @function
_start:
        xor     %ebp, %ebp
        call    run
#ifdef __x86_64__
        mov     %eax, %edi
        mov     $60, %eax
        syscall
#else
        mov     %eax, %ebx
        mov     $1, %eax
        int     $0x80
#endif
        hlt
        .size   _start, . - _start

        .globl  bare
        .type   bare, @function
bare:
        BEGIN
#ifdef __x86_64__
        leaq    1(%rdi), %rax
        addq    $2, %rax
#else
        movl    4(%esp), %eax
        addl    $3, %eax
#endif
        ret
        END
        .size   bare, . - bare

        .globl  bare_calls
        .type   bare_calls, @function
bare_calls:
        BEGIN
#ifdef __x86_64__
        pushq   %rbp
        movq    %rsp, %rbp
        movq    %rdi, %rax
        movq    %rsi, %rdi
        call    *%rax
        addq    $1, %rax
        popq    %rbp
#else
        pushl   %ebp
        .cfi_def_cfa_offset 8
        .cfi_offset ebp, -8
        movl    %esp, %ebp
        .cfi_def_cfa_register ebp
        pushl   12(%ebp)
        call    *8(%ebp)
        addl    $1, %eax
        leave
        .cfi_restore ebp
        .cfi_def_cfa esp, 4
#endif
        ret
        END
        .size   bare_calls, . - bare_calls
        .section .note.GNU-stack, "", @progbits
