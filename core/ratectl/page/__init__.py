"""A page of usage as one HTML file: of an environment, or of one agent while it runs."""
