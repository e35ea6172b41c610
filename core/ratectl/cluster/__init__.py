"""Limits across the cluster."""
