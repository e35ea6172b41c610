"""Limits of Envoy Gateway, which a management server sends over xDS."""
