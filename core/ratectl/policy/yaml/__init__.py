"""Strict YAML: text to plain values, each with its place in the file."""
