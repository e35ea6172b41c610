"""Buckets: their sets, the table that bounds them, and what a reload does to them."""
