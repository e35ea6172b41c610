"""Publish a policy tree as the next generation."""
