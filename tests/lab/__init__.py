"""The lab: the real machines and programs that the live tests run against.

Here live: how they are built, started and ended (`servers`, `programs`), the oracle (`gdb`), and
what Debian calls the packages they come in (`packages`). Here must not live: tests, and fakes.
"""
