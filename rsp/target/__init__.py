"""A live machine or process under a stub.

Contents: the session (a Connection driven over a transport), the handshake and the stub's
fingerprint, registers, memory, threads, breakpoints and execution, and Target, which holds them.
What is true of any CPU of a kind is in ``rsp.arch``; what is true of Linux is further down.
"""
