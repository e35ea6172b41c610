"""The rate-limit algorithms: pure functions of a state, a cost and an instant."""
