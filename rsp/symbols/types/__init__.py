"""C types: what they are, how they are written, and where they are read from.

Here live: the types as values (`types`), their text (`text`), and their two sources, BTF (`btf`)
and DWARF (`from_dwarf`). Here must not live: values of a type, and which of two sources is asked.
"""
