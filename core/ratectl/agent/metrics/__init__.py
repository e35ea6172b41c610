"""Metrics of one agent: families of numbers, for Prometheus and OpenTelemetry."""
