"""Check that a policy tree holds together."""
