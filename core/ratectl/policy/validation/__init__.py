"""Semantic rules and lint of policy trees."""
