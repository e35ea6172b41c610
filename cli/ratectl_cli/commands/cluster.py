"""``ratectl cluster``: limits that processes share."""

from ratectl_cli.framework.lazy import Entry

__all__ = ["COMMANDS", "DEFAULT"]

_HERE = "ratectl_cli.commands"

COMMANDS = {
    "status": Entry(
        "Commands",
        f"{_HERE}.cluster_status:status",
        "Show members, their shares, the owners, and which limits they share.",
    ),
    "size": Entry(
        "Commands",
        f"{_HERE}.cluster_size:size",
        "Estimate how much of a limit a cluster would use.",
    ),
    "run": Entry(
        "Commands",
        f"{_HERE}.cluster_run:run",
        "Run a dedicated owner of limits across the cluster until stopped.",
        refuses=("timeout",),
    ),
    "forget": Entry("Commands", f"{_HERE}.cluster_forget:forget", "Remove a member that is gone."),
}

DEFAULT = "status"
