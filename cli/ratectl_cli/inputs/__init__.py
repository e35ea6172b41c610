"""Inputs that the command line names: policies, logs, keys and filters."""
