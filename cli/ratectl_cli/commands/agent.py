"""``ratectl agent``: commands that run an agent."""

from ratectl_cli.framework.lazy import Entry

__all__ = ["COMMANDS"]

COMMANDS = {
    "run": Entry(
        "Commands",
        "ratectl_cli.commands.agent_run:run",
        "Run an agent until stopped.",
        refuses=("timeout",),
    ),
}
