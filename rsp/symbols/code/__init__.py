"""What DWARF says of a program's code and of what it declares, one question a file.

Here live: the functions at an address (`functions`), their calls (`call_sites`), what a scope
declares (`block_names`), variables by address (`variables`), where a breakpoint goes (`locator`,
`location`, `prologue`), and source files (`sources`). Here must not live: which reader is asked
(`binary`).
"""
