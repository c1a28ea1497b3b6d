"""The remote protocol as bytes and values: no I/O, no clock, no threads.

Contents: codec (checksum, escapes, run-length), framing (where packets begin and end), commands,
replies and stops (typed, frozen, spelled by tables), features, limits (what a stub can take),
states (tables) and connection (acks, retransmission, pipelining, deadlines). What opens a stream is
in ``rsp.transports``; what a register or a breakpoint is, further up.
"""
