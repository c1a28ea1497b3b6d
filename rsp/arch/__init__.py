"""x86 CPUs as data.

Contents: registers and layouts (``layout``, ``i386``, ``x86_64``, ``layouts``), target descriptions
(``description``), modes (``modes``), flags, and the structures that the CPU reads from memory
(``descriptors``). Nothing here asks a stub for anything.
"""
