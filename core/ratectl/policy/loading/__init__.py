"""Find policy files, and turn them into a tree or into findings."""
