"""DWARF, versions 2 to 5, read where it lies.

Contents: the sections (`sections`), units and their entries (`units`, `die`), how entries are found
(`walk`, `die_search`, `scan`, `name_index`), and what they say of addresses (`ranges`, `aranges`),
lines and locations (`lines`, `loclists`, `expressions`). Not here: ELF, symbols, types, and the
choice among several answers.

These readers are the project's own, and not pyelftools, where a kernel is read in bulk or a
question must be answered within the start of a process; docs/symbols.md has the measurements.
"""
