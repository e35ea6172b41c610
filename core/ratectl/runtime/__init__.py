"""Helpers without knowledge of rate limits: files, Git, URLs, times, threads, the collector."""
