"""The policy language: documents, their model, validation and resolution. No store, no engine."""
