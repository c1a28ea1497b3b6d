"""What DWARF says of a program's code and of what it declares, one question a file.

Contents: the functions at an address (`functions`), their calls (`call_sites`), what a scope
declares (`block_names`), variables by address (`variables`), where a breakpoint goes (`locator`,
`location`, `prologue`), and source files (`sources`). Not here: which reader is asked (`binary`).
"""
