"""Benchmarks: times, sizes and ratios; compared values come from one run. Run: ``make bench``."""
