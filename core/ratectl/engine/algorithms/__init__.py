"""The rate-limit algorithms: arithmetic on a bucket state, a cost and an instant."""
