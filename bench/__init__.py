"""Benchmarks: figures and ratios, each pair measured in one run. Run with ``make bench``."""
