"""What the symbols say of one address, or of all that is around it.

Contents: its place in the source as gdb shows it (`source_position`), and its name (`symbolize`).
Not here: anything of a target: an address and numbers are given.
"""
