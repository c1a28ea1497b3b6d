"""What a binary says of itself: symbols and source lines, without any target.

Here live: reading ELF files (`elf`) and the line programs of DWARF (`lines`), and the table that
answers questions about both (`table`). Here must not live: anything that runs, and addresses as
they are in a machine: those here are the linker's.
"""
