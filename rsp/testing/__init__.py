"""What tests need, users' as ours.

Contents: a launcher for QEMU (``qemu``) with a boot sector that goes through every CPU mode
(``boot``), a scriptable stub (``stub``), faults for a line (``faults``), and Hypothesis strategies
for packets and values (``strategies``). Nothing in the library imports this room, but the demo.
"""
