"""Compile a resolved policy tree into the plans that an engine runs."""
