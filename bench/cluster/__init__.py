"""Limits across processes: how much of them real processes use, and what a decision costs."""
