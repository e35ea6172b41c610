"""Agents as the store knows them: what they report, and which generation they enforce."""
