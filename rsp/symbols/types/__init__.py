"""C types: what they are, how they are written, and where they are read from.

Contents: the types as values (`types`), their text (`text`), and their two sources, BTF (`btf`) and
DWARF (`from_dwarf`). Not here: values of a type, and which of two sources is asked.
"""
