"""Benchmarks of lsfast beside Litestream and beside what the machine can do; see scripts/bench.py."""
