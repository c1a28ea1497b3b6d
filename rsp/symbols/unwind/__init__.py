"""How to unwind from an address: rules, and the tables of a file that have them.

Contents: the rules (`rules`), call frame information (`cfi`), ORC (`orc`), and the choice between
them (`tables`). Not here: registers and memory, which the rules are followed over.
"""
