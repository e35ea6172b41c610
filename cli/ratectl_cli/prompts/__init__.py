"""Flows of commands that take more than one step: read, compare, ask, publish, wait, answer."""
