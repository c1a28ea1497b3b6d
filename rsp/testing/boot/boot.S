/*
 * A boot sector that takes an x86 CPU through every mode it has:
 *
 *   real_start       REAL16       where the BIOS enters, cs = 0
 *   real_based       REAL16       the same with cs = 0x7c0: ip is not the linear address here
 *   protected16      PROTECTED16  CR0.PE is set, cs still holds the 16-bit code segment
 *   protected_start  PROTECTED32  flat 32-bit code
 *   compat_start     COMPAT32     EFER.LMA is set, cs still holds the 32-bit code segment
 *   long_start       LONG64       64-bit code; counts in `counter` for ever, one call of `tick` each
 *
 * Every mode leaves a mark in a register that none after it touches, so that one look at the end
 * shows the whole way: esi, edi, ebp, ebx, rax. On a CPU without long mode the way ends in
 * `no_long_mode`, in PROTECTED32, counting too.
 *
 * Low memory:  0x1000 PML4 · 0x2000 PDPT · 0x3000 PD · 0x4000 counter · 0x7c00 this sector, and
 * the stack below it. The first 2 MiB are mapped twice, at 0 and at 0xffffffff80000000 (as a
 * kernel does); nothing else is mapped in the 64-bit modes.
 *
 * Here must not live: interrupts, BIOS calls, anything that differs from one run to the next.
 * `python -m rsp.testing.boot.build` makes boot.elf and boot.img of it.
 */

#define REAL_MARK        0x16161616             /* esi */
#define PROTECTED16_MARK 0x16321632             /* edi */
#define PROTECTED32_MARK 0x32323232             /* ebp */
#define COMPAT_MARK      0x32643264             /* ebx */
#define LONG_MARK_BYTE   0x64                   /* every byte of rax */

#define PML4 0x1000
#define PDPT 0x2000
#define PD   0x3000
#define TABLES_END 0x5000                       /* with the page of the counter */
#define TABLE     0x03                          /* page table entry: present, writable */
#define HUGE_PAGE 0x83                          /* the same, and a page of 2 MiB */

#define CODE32 0x08                             /* selectors into gdt, below */
#define DATA   0x10
#define CODE64 0x18

#define CR0_PE (1 << 0)
#define CR0_PG (1 << 31)
#define CR4_PAE    (1 << 5)
#define CR4_OSFXSR (1 << 9)                     /* without it an SSE instruction is undefined */
#define MSR_EFER 0xc0000080
#define EFER_LME (1 << 8)
#define CPUID_HIGHEST  0x80000000
#define CPUID_FEATURES 0x80000001
#define CPUID_LM_BIT   29                       /* of edx */

        .cfi_sections .debug_frame

        .macro function name
        .globl \name
        .type  \name, @function
\name:
        .endm

        .macro end name
        .size  \name, . - \name
        .endm

        .section .bss
        .globl counter
        .type  counter, @object
        .size  counter, 8
counter:
        .skip 8

        .text
        .code16

function real_start
        ljmp  $(0x7c00 >> 4), $(real_based - real_start)
end real_start

function real_based
        cli
        cld
        xorl  %eax, %eax
        movw  %ax, %ds
        movw  %ax, %es
        movw  %ax, %ss
        movl  $0x7c00, %esp

        /* The page tables and the counter: cleared, then five entries filled in. */
        movw  $PML4, %di
        movw  $((TABLES_END - PML4) / 4), %cx
        rep stosl
        movw  $(PDPT + TABLE), PML4
        movw  $(PDPT + TABLE), PML4 + 511 * 8
        movw  $(PD + TABLE), PDPT
        movw  $(PD + TABLE), PDPT + 510 * 8
        movw  $HUGE_PAGE, PD

        movl  $REAL_MARK, %esi
        lgdtl gdt_pointer
        movl  %cr0, %eax
        orb   $CR0_PE, %al
        movl  %eax, %cr0
end real_based

function protected16
        movl  $PROTECTED16_MARK, %edi
        ljmpl $CODE32, $protected_start
end protected16

        .code32

function protected_start
        movl  $DATA, %eax
        movw  %ax, %ds
        movw  %ax, %es
        movw  %ax, %ss
        movl  $PROTECTED32_MARK, %ebp

        movl  $CPUID_HIGHEST, %eax
        cpuid
        cmpl  $CPUID_FEATURES, %eax
        jb    no_long_mode
        movl  $CPUID_FEATURES, %eax
        cpuid
        btl   $CPUID_LM_BIT, %edx
        jnc   no_long_mode

        /* Intel SDM vol. 3A, 10.8.5: PAE, then PML4, then EFER.LME, then paging. */
        movl  $(CR4_PAE | CR4_OSFXSR), %eax
        movl  %eax, %cr4
        movl  $PML4, %eax
        movl  %eax, %cr3
        movl  $MSR_EFER, %ecx
        rdmsr
        orl   $EFER_LME, %eax
        wrmsr
        movl  %cr0, %eax
        orl   $CR0_PG, %eax
        movl  %eax, %cr0
end protected_start

function compat_start
        movl  $COMPAT_MARK, %ebx
        ljmp  $CODE64, $long_start
end compat_start

function no_long_mode
        incl  counter
        jmp   no_long_mode
end no_long_mode

        .code64

function long_start
        .cfi_startproc
        .cfi_undefined rip                     /* nobody called: a backtrace ends here */
        /* Each of r8 … r15 holds its own number in every byte. */
        movabsq $0x0101010101010101, %rax
        leaq  (, %rax, 8), %r8
        leaq  (%r8, %rax), %r9
        leaq  (%r9, %rax), %r10
        leaq  (%r10, %rax), %r11
        leaq  (%r11, %rax), %r12
        leaq  (%r12, %rax), %r13
        leaq  (%r13, %rax), %r14
        leaq  (%r14, %rax), %r15
        imulq $LONG_MARK_BYTE, %rax, %rax

        movups greeting, %xmm0
        movq  %r15, %xmm15
        fninit
        fldpi

1:      call  tick
        jmp   1b
        .cfi_endproc
end long_start

function tick
        .cfi_startproc
        incq  counter
        ret
        .cfi_endproc
end tick

        .globl greeting
        .type  greeting, @object
greeting:
        .asciz "16, 32, 64: here we are"
        .size  greeting, . - greeting

/* Segment descriptors (SDM vol. 3A, 3.4.5), base 0: flat code and data, 4 GiB. */
        .balign 8
        .globl gdt
        .type  gdt, @object
gdt:
        .quad 0
        .quad 0x00cf9a000000ffff                /* CODE32 */
        .quad 0x00cf92000000ffff                /* DATA */
        .quad 0x00af9a000000ffff                /* CODE64 */
        .size  gdt, . - gdt

gdt_pointer:
        .word gdt_pointer - gdt - 1
        .long gdt

        .org  510
        .word 0xaa55
