"""One module for each command: parse options, call the library, print the result."""
