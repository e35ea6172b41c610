"""The policy side of each algorithm: its fields, its caps, and comparisons of its limits."""
