"""ELF files: their sections and symbols, their debug files, modules at their addresses.

Contents: the mapped file (`image`, `section_data`, `inflate`), the symbol table (`symtab`), what an
object needs to have addresses (`relocation`), and the search for other files (`debugfile`,
`modules`). Not here: DWARF and BTF, which are bytes here.
"""
