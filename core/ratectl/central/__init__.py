"""Central limits: limits that a Valkey or Redis server counts for all processes."""
