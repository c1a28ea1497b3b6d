"""The lab: the real machines and programs that the live tests run against.

Contents: how they are built, started and ended (`servers`, `programs`), the oracle (`gdb`), and
what Debian calls the packages they come in (`packages`). Not here: tests, and fakes.
"""
