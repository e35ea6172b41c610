"""From core's values to text and data: no I/O, no decisions."""
