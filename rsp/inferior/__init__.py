"""The inferior: what stands still at a stop, and can be asked.

Contents: threads, registers, memory, page tables, symbols in place, the current scope, backtraces
and machine code as text. Not here: breakpoints, and what lets a target run (`rsp.run`).
"""
