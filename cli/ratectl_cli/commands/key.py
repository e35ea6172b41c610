"""``ratectl key``: keys to sign generations with."""

from ratectl_cli.framework.lazy import Entry

__all__ = ["COMMANDS"]

COMMANDS = {
    "generate": Entry(
        "Commands", "ratectl_cli.commands.key_generate:generate", "Make a key pair in two files."
    ),
}
