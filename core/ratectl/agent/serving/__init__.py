"""Endpoints of an agent over HTTP: metrics and health, and its usage for operators."""
