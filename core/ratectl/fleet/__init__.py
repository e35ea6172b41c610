"""All agents of an environment, by the store: their reports, and the generations they enforce."""
