"""Generations that were published: reading them, their bytes, and who changed what."""
