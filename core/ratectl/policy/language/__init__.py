"""The policy language: the models of documents, and the values in them."""
