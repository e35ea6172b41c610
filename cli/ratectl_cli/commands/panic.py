"""``ratectl panic``: the kill switch."""

from ratectl_cli.framework.lazy import Entry

__all__ = ["COMMANDS", "DEFAULT"]

_HERE = "ratectl_cli.commands"

COMMANDS = {
    "on": Entry("Commands", f"{_HERE}.panic_on:on", "Turn off all limits at and below a scope."),
    "off": Entry("Commands", f"{_HERE}.panic_off:off", "Turn limits on again."),
    "status": Entry(
        "Commands",
        f"{_HERE}.panic_status:status",
        "Show which switches are on, and which agents obey.",
    ),
}

DEFAULT = "status"
