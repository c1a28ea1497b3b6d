"""Typed values and expressions of C, over any memory.

Contents: values, what they look like as text, what names stand for, and expressions. They need a
`Space`: something that reads memory, and symbols. Not here: where registers and stacks come from
(see `rsp.unwind`, `rsp.frames`).
"""
