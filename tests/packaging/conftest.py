"""Fixtures of the distributions; see ``distributions``."""

from distributions import built, environment

__all__ = ["built", "environment"]
