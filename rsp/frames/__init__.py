"""Frames: functions, lines and variables of the activations of a stack, over any memory.

Contents: a frame, and the backtrace that the step to callers makes. Not here: that step
(`rsp.unwind`), and whose stack it is (`rsp.inferior`).
"""
