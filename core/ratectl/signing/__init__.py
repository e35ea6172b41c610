"""Sign what is published, and verify it."""
