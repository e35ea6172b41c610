"""``ratectl panic``: the kill switch."""

from ratectl_cli.framework.lazy import Entry

__all__ = ["COMMANDS", "DEFAULT"]

_HERE = "ratectl_cli.commands"

COMMANDS = {
    "on": Entry(
        "Commands", f"{_HERE}.panic_on:on", "Refuse nothing at and below a scope, from now on."
    ),
    "off": Entry("Commands", f"{_HERE}.panic_off:off", "Enforce limits again."),
    "status": Entry(
        "Commands", f"{_HERE}.panic_status:status", "Show which switches are on, and who obeys."
    ),
}

DEFAULT = "status"
