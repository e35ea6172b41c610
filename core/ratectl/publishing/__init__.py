"""Publish a policy tree as the next generation. The way in: ``ratectl.publishing.propose``."""
