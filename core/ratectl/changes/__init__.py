"""Compare two policy trees, and judge what the difference puts at risk."""
