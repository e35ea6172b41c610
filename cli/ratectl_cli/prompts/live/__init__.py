"""Live views of usage on a terminal: ``ratectl usage --watch`` and ``ratectl top --watch``.

``state`` holds what the view shows and how keys change it, ``view`` draws it: both without a
terminal. ``reader`` reads the store, ``loop`` connects all of them.
"""

from ratectl_cli.prompts.live.loop import watch_usage

__all__ = ["watch_usage"]
