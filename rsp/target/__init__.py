"""A live machine or process under a stub.

Contents: registers, memory, threads, breakpoints and execution, and Target, which holds them. Not
here: how the stub is spoken to (`rsp.session`), what is true of any CPU of a kind (`rsp.arch`), and
what is true of Linux (`rsp.linux`).
"""
