"""Usage of one agent: what it has decided, and how full its limits are."""
