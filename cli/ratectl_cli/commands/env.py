"""``ratectl env``: environments and their protection."""

from ratectl_cli.framework.lazy import Entry

__all__ = ["COMMANDS", "DEFAULT"]

_HERE = "ratectl_cli.commands"

COMMANDS = {
    "list": Entry(
        "Commands", f"{_HERE}.env_list:list_", "List environments, and which of them answer."
    ),
    "protect": Entry(
        "Commands",
        f"{_HERE}.env_protect:protect",
        "Require a name or a signature for changes of an environment.",
    ),
    "unprotect": Entry(
        "Commands", f"{_HERE}.env_protect:unprotect", "Remove the protection of an environment."
    ),
}

DEFAULT = "list"
