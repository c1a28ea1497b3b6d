"""A session with a stub: requests over a transport, and what is known of who answers them.

Contents: the session (a Connection driven over a transport), the handshake, the stub's fingerprint,
the way to a kernel's attention on a serial line, the console on it, and the way back when the
handshake breaks off. Not here: what a target is made of (`rsp.remote`).
"""
