"""What a binary says of itself: symbols, lines, types, unwinding rules, without any target.

Contents, in layers, each of which knows only those before it: what is kept between processes
(`cache`), ELF (`elf`), DWARF (`dwarf`), C types (`types`), unwinding tables (`unwind`), what is
asked of code (`code`), one file and all that answers for it (`binary`), and the public table of a
file and its modules (`table`), and what is at one address in it (`at_pc`). From outside this room
`types`, `unwind`, `binary`, `table` and `at_pc` are its doors. Not here: anything that runs.

Addresses are those of the link, but in `table` and `at_pc`.
"""
