"""Resets: an operator makes the buckets of one key full, in every agent."""
