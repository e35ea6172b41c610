"""Small helpers below everything else: files, Git, URLs, pauses of the collector."""
