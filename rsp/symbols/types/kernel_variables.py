"""The types of a Linux kernel's well-known variables, for a vmlinux that has BTF and no DWARF.

Contents: what the kernel's headers declare, by name. BTF has the types of all structures, but of
variables only the per-CPU ones. Not here: the types themselves (`btf`), and any layout: a variable
whose type the kernel does not have, or whose size is another, is left without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rsp.symbols.types.types import VOID, Array, Pointer, Qualified, Qualifier, Struct

if TYPE_CHECKING:
    from rsp.symbols.types.btf import Btf
    from rsp.symbols.types.types import Type

_DECLARED: Final[dict[str, tuple[str, ...]]] = {
    # include/linux/init_task.h, sched.h, mm_types.h, cred.h
    "struct task_struct": ("init_task",),
    "struct mm_struct": ("init_mm", "efi_mm"),
    "struct cred": ("init_cred",),
    "struct nsproxy": ("init_nsproxy",),
    "struct fs_struct": ("init_fs",),
    "struct files_struct": ("init_files",),
    "struct signal_struct": ("init_signals",),
    "struct sighand_struct": ("init_sighand",),
    "struct pid": ("init_struct_pid",),
    "struct pid_namespace": ("init_pid_ns",),
    "struct uts_namespace": ("init_uts_ns",),
    "struct user_namespace": ("init_user_ns",),
    "struct ipc_namespace": ("init_ipc_ns",),
    "struct cgroup_namespace": ("init_cgroup_ns",),
    "struct net": ("init_net",),
    "struct task_group": ("root_task_group",),
    "struct mem_cgroup *": ("root_mem_cgroup",),
    "struct css_set": ("init_css_set",),
    "struct cgroup_root": ("cgrp_dfl_root",),
    "struct workqueue_struct *": ("system_wq", "system_highpri_wq", "system_unbound_wq"),
    # Heads of lists.
    "struct list_head": (
        *("modules", "super_blocks", "slab_caches", "cgroup_roots", "net_namespace_list"),
        *("pci_root_buses", "vmap_area_list", "workqueues", "shrinker_list"),
    ),
    "struct file_system_type *": ("file_systems",),
    "struct mod_tree_root": ("mod_tree",),
    "struct console *": ("console_drivers", "early_console"),
    # kernel/printk
    "struct printk_ringbuffer *": ("prb",),
    "struct printk_ringbuffer": ("printk_rb_static",),
    "char *": ("log_buf", "saved_command_line", "static_command_line"),
    "const char []": ("linux_banner", "linux_proc_banner"),
    "char []": ("boot_command_line", "__log_buf"),
    "u32": ("log_buf_len",),
    # Time, counters, flags.
    "unsigned long": (
        *("loops_per_jiffy", "tainted_mask", "total_forks", "max_pfn", "min_low_pfn"),
        *("max_low_pfn", "page_offset_base", "vmalloc_base", "vmemmap_base", "phys_base"),
    ),
    "volatile unsigned long": ("jiffies",),
    "u64": ("jiffies_64",),
    "unsigned int": ("nr_cpu_ids",),
    "int": (
        *("nr_threads", "oops_in_progress", "panic_timeout", "panic_on_oops"),
        *("tick_do_timer_cpu", "max_threads", "pid_max"),
    ),
    "enum system_states": ("system_state",),
    "atomic_t": ("panic_cpu",),
    # CPUs and memory.
    "struct cpuinfo_x86": ("boot_cpu_data",),
    "struct cpumask": (
        *("__cpu_possible_mask", "__cpu_online_mask", "__cpu_present_mask", "__cpu_active_mask"),
    ),
    "unsigned long []": ("__per_cpu_offset",),
    "void *": ("high_memory",),
    "struct mem_section **": ("mem_section",),
    "pg_data_t *[]": ("node_data",),
    "struct pglist_data": ("contig_page_data",),
    "struct page *": ("mem_map",),
    "pgd_t []": ("init_top_pgt", "swapper_pg_dir"),
    "gate_desc []": ("idt_table",),
    "struct resource": ("iomem_resource", "ioport_resource", "crashk_res"),
    "struct swap_info_struct *[]": ("swap_info",),
    "struct hlist_bl_head *": ("dentry_hashtable",),
    "struct hlist_head *": ("inode_hashtable",),
    "struct kmem_cache *": ("kmem_cache", "task_struct_cachep", "names_cachep"),
    # Drivers and networks.
    "struct kset *": ("module_kset", "devices_kset"),
    "struct inet_hashinfo": ("tcp_hashinfo",),
    "struct proto": ("tcp_prot", "udp_prot"),
    "struct udp_table": ("udp_table",),
}
_QUALIFIERS: Final = {"const": Qualifier.CONST, "volatile": Qualifier.VOLATILE}
KERNEL_VARIABLES: Final[dict[str, str]] = {
    name: declared for declared, names in _DECLARED.items() for name in names
}


def kernel_variable(btf: Btf, name: str, size: int, word_size: int) -> Type | None:
    """Return the type of a well-known variable, None where it is not known.

    Args:
        btf: the kernel's types.
        name: the variable.
        size: of its symbol; 0 where the file does not say.
        word_size: of an address.
    """
    declared = KERNEL_VARIABLES.get(name)
    if declared is None:
        return None
    first, _, rest = declared.partition(" ")
    bare = (rest if first in _QUALIFIERS else declared).removesuffix("[]").rstrip()
    found = VOID if bare == "void *" else btf.find(bare.rstrip(" *"))
    if found is None:
        return None
    for _ in range(bare.count("*")):
        found = Pointer(found, word_size)
    if first in _QUALIFIERS:
        found = Qualified(found, _QUALIFIERS[first])
    if declared.endswith("[]"):
        return Array(found, size // found.size if size and found.size else None)
    fits = not size or found.size == size or (_is_flexible(found) and (found.size or 0) < size)
    return found if fits else None


def _is_flexible(ctype: Type) -> bool:
    """Return whether a structure ends in an array that may be longer than its type says."""
    members = ctype.members if isinstance(ctype, Struct) else ()
    last = members[-1].type.resolved if members else None
    return isinstance(last, Array) or (last is not None and _is_flexible(last))
