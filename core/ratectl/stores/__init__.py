"""Stores: open one by its URL. Only ``registry`` knows which backends exist."""

from __future__ import annotations

from ratectl.stores.registry import check_url, in_one_process, is_server, open_store, security_of

__all__ = ["check_url", "in_one_process", "is_server", "open_store", "security_of"]
