"""Health of an environment: agents, usage, and what `ratectl doctor` examines."""
