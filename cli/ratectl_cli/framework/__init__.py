"""What every command is built on: options, the session, deadlines, signals and output."""
