"""gdb-rsp."""
