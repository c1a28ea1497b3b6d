"""What the library costs, as ratios against a peer measured in the same run.

Contents: one module for each subject, with a ``measure() -> list[Figure]``; ``python -m
benchmarks`` runs them all and prints a table. Nothing here is a test: machines differ, and only the
ratios hold.
"""
