"""The commands of ``rsp``.

Contents: one module a command, of the same name; where that is a word of Python's own (``break``,
``list``) an underscore follows, as PEP 8 has it. A module has ``add_arguments(parser)`` and
``run(arguments)``, which returns the exit status. Not here: what two commands need.
"""
