"""Unwinding: from the registers of a frame to those of its caller, over any memory.

Contents: activations, and the step to a caller by tables or by the frame pointer. Not here: packets
and targets, which give the memory; the entry code of Linux, which `rsp.linux` knows.
"""
