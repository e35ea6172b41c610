"""Resolve what holds at a scope: inheritance, overrides, exceptions and caps."""
