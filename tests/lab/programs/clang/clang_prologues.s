	.text
	.file	"clang_prologues.c"
	.globl	visit
	.p2align	4, 0x90
	.type	visit,@function
visit:
.Lfunc_begin0:
	.file	0 "." "clang_prologues.c" md5 0x3f7cc712834ef4b218ac7402c44e59a4
	.loc	0 6 0
	.cfi_startproc
	pushq	%rbx
	.cfi_def_cfa_offset 16
	.cfi_offset %rbx, -16
	movl	(%rdi), %ebx
.Ltmp0:
	.loc	0 7 23 prologue_end
	addl	%esi, %ebx
	.loc	0 8 13
	addl	%ebx, counter(%rip)
	.loc	0 9 15
	cmpl	$3, %esi
	.loc	0 9 9 is_stmt 0
	jl	.LBB0_2
	.loc	0 10 16 is_stmt 1
	leaq	.L.str(%rip), %rsi
	callq	other
.Ltmp1:
	.loc	0 0 16 is_stmt 0
	jmp	.LBB0_3
.LBB0_2:
	.loc	0 11 27 is_stmt 1
	addl	$1, %esi
	.loc	0 11 12 is_stmt 0
	callq	visit
.Ltmp2:
.LBB0_3:
	.loc	0 0 0
	addl	%ebx, %eax
	.loc	0 12 1 is_stmt 1
	popq	%rbx
	.cfi_def_cfa_offset 8
	retq
.Ltmp3:
.Lfunc_end0:
	.size	visit, .Lfunc_end0-visit
	.cfi_endproc
	.globl	other
	.p2align	4, 0x90
	.type	other,@function
other:
.Lfunc_begin1:
	.loc	0 14 0
	.cfi_startproc
	.loc	0 15 27 prologue_end
	movsbl	(%rsi), %eax
	.loc	0 15 18 is_stmt 0
	movl	%eax, -4(%rsp)
	.loc	0 16 12 is_stmt 1
	addl	$1, counter(%rip)
	.loc	0 17 12
	movl	-4(%rsp), %eax
	.loc	0 17 5 is_stmt 0
	retq
.Ltmp4:
.Lfunc_end1:
	.size	other, .Lfunc_end1-other
	.cfi_endproc
	.globl	step.llvm.8812
	.p2align	4, 0x90
	.type	step.llvm.8812,@function
step.llvm.8812:
.Lfunc_begin2:
	.loc	0 21 0 is_stmt 1
	.cfi_startproc
	pushq	%rbp
	.cfi_def_cfa_offset 16
	pushq	%r15
	.cfi_def_cfa_offset 24
	pushq	%r14
	.cfi_def_cfa_offset 32
	pushq	%rbx
	.cfi_def_cfa_offset 40
	subq	$264, %rsp
	.cfi_def_cfa_offset 304
	.cfi_offset %rbx, -40
	.cfi_offset %r14, -32
	.cfi_offset %r15, -24
	.cfi_offset %rbp, -16
	movl	%edi, %r14d
.Ltmp5:
	.loc	0 23 23 prologue_end
	testl	%edi, %edi
	.loc	0 23 5 is_stmt 0
	jle	.LBB2_3
	.loc	0 23 23
	movl	%r14d, %ebp
	xorl	%ebx, %ebx
	leaq	.L.str.1(%rip), %r15
	.p2align	4, 0x90
.LBB2_2:
	.loc	0 24 19 is_stmt 1
	movq	%r15, %rsi
	callq	other
.Ltmp6:
	.loc	0 24 17 is_stmt 0
	movb	%al, (%rsp,%rbx)
	.loc	0 23 30 is_stmt 1
	addq	$1, %rbx
	.loc	0 23 23 is_stmt 0
	cmpq	%rbx, %rbp
	.loc	0 23 5
	jne	.LBB2_2
.LBB2_3:
	.loc	0 25 12 is_stmt 1
	movslq	%r14d, %rax
	movsbl	(%rsp,%rax), %eax
	.loc	0 25 5 is_stmt 0
	addq	$264, %rsp
	.cfi_def_cfa_offset 40
	popq	%rbx
	.cfi_def_cfa_offset 32
	popq	%r14
	.cfi_def_cfa_offset 24
	popq	%r15
	.cfi_def_cfa_offset 16
	popq	%rbp
	.cfi_def_cfa_offset 8
	retq
.Ltmp7:
.Lfunc_end2:
	.size	step.llvm.8812, .Lfunc_end2-step.llvm.8812
	.cfi_endproc
	.globl	_start
	.p2align	4, 0x90
	.type	_start,@function
_start:
.Lfunc_begin3:
	.loc	0 28 0 is_stmt 1
	.cfi_startproc
	pushq	%rbp
	.cfi_def_cfa_offset 16
	pushq	%rbx
	.cfi_def_cfa_offset 24
	subq	$24, %rsp
	.cfi_def_cfa_offset 48
	.cfi_offset %rbx, -24
	.cfi_offset %rbp, -16
	movl	%edi, %ebx
.Ltmp8:
	.loc	0 29 17 prologue_end
	movups	.L__const._start.node(%rip), %xmm0
	movaps	%xmm0, (%rsp)
	movq	%rsp, %rdi
	.loc	0 30 12
	movl	%ebx, %esi
	callq	visit
.Ltmp9:
	movl	%eax, %ebp
	.loc	0 30 33 is_stmt 0
	movl	%ebx, %edi
	callq	step.llvm.8812
.Ltmp10:
	.loc	0 30 31
	addl	%ebp, %eax
	.loc	0 30 5
	addq	$24, %rsp
	.cfi_def_cfa_offset 24
	popq	%rbx
	.cfi_def_cfa_offset 16
	popq	%rbp
	.cfi_def_cfa_offset 8
	retq
.Ltmp11:
.Lfunc_end3:
	.size	_start, .Lfunc_end3-_start
	.cfi_endproc
	.type	counter,@object
	.local	counter
	.comm	counter,4,4
	.type	.L.str,@object
	.section	.rodata.str1.1,"aMS",@progbits,1
.L.str:
	.asciz	"deep"
	.size	.L.str, 5
	.type	.L.str.1,@object
.L.str.1:
	.asciz	"x"
	.size	.L.str.1, 2
	.type	.L__const._start.node,@object
	.section	.rodata.cst16,"aM",@progbits,16
	.p2align	3
.L__const._start.node:
	.long	1
	.zero	4
	.quad	0
	.size	.L__const._start.node, 16
	.section	.debug_abbrev,"",@progbits
	.byte	1
	.byte	17
	.byte	0
	.byte	37
	.byte	37
	.byte	19
	.byte	5
	.byte	3
	.byte	37
	.byte	114
	.byte	23
	.byte	16
	.byte	23
	.byte	27
	.byte	37
	.byte	17
	.byte	27
	.byte	18
	.byte	6
	.byte	115
	.byte	23
	.byte	0
	.byte	0
	.byte	0
	.section	.debug_info,"",@progbits
.Lcu_begin0:
	.long	.Ldebug_info_end0-.Ldebug_info_start0
.Ldebug_info_start0:
	.short	5
	.byte	1
	.byte	8
	.long	.debug_abbrev
	.byte	1
	.byte	0
	.short	12
	.byte	1
	.long	.Lstr_offsets_base0
	.long	.Lline_table_start0
	.byte	2
	.byte	0
	.long	.Lfunc_end3-.Lfunc_begin0
	.long	.Laddr_table_base0
.Ldebug_info_end0:
	.section	.debug_str_offsets,"",@progbits
	.long	16
	.short	5
	.short	0
.Lstr_offsets_base0:
	.section	.debug_str,"MS",@progbits,1
.Linfo_string0:
	.asciz	"Debian clang version 14.0.6"
.Linfo_string1:
	.asciz	"clang_prologues.c"
.Linfo_string2:
	.asciz	"."
	.section	.debug_str_offsets,"",@progbits
	.long	.Linfo_string0
	.long	.Linfo_string1
	.long	.Linfo_string2
	.section	.debug_addr,"",@progbits
	.long	.Ldebug_addr_end0-.Ldebug_addr_start0
.Ldebug_addr_start0:
	.short	5
	.byte	8
	.byte	0
.Laddr_table_base0:
	.quad	.Lfunc_begin0
.Ldebug_addr_end0:
	.ident	"Debian clang version 14.0.6"
	.section	".note.GNU-stack","",@progbits
	.section	.debug_line,"",@progbits
.Lline_table_start0:
