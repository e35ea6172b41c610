"""Adapters to other libraries. Each module imports its library, which ratectl does not install."""
