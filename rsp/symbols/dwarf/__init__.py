"""DWARF, versions 2 to 5, read where it lies.

Here live: the sections (`sections`), units and their entries (`units`, `die`), and what they
describe: addresses (`ranges`, `aranges`), lines, types, location lists. Here must not live: ELF,
symbols, and the choice among several answers.

These readers are the project's own, and not pyelftools, where a kernel is read in bulk or a
question must be answered within the start of a process; docs/symbols.md has the measurements.
"""
