"""The engine on the compiled core, and the C sources of that core."""
