"""Published generations: their history entries, their bytes, and who changed which value."""
