"""Values of the library as text and data: no I/O, no decisions."""
