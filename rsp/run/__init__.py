"""Letting an inferior run, and what its stops are.

Contents: breakpoints and watchpoints, resumes, steps, stops and their reasons, steps by source
lines, the search for a switch of the CPU's mode. Not here: what is asked at a stop
(`rsp.inferior`).
"""
