"""Foundation of every command: options, session, deadlines, signals and output."""
