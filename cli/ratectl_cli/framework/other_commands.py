"""Words of other command lines, and what to write instead of them."""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["EXAMPLE_VALUES", "OTHER_COMMANDS", "OTHER_OPTIONS", "PATH_OPTIONS", "READING"]

PATH_OPTIONS: Final = (
    "-f", "-d", "-p", "--file", "--files", "--filename", "--folder", "--dir", "--directory",
    "--path", "--policies", "--policy", "--recursive", "-R",
)  # fmt: skip
"""Options that name files in other programs."""

OTHER_OPTIONS: "Final[Mapping[str, tuple[str, ...]]]" = {
    "--json": ("--format json", "--output json"),
    "--yaml": ("--output yaml",),
    **dict.fromkeys(("--trace", "--input", "--traffic"), ("--log FILE",)),
    "-V": ("--version",),
    **dict.fromkeys(("-n", "--max", "--count"), ("--limit", "--times")),
    **dict.fromkeys(("--force", "--auto-approve", "--assume-yes", "--no-confirm"), ("--yes",)),
    **dict.fromkeys(("--endpoints", "--endpoint", "--url", "--server", "--host"), ("--store URL",)),
    **dict.fromkeys(("--label", "--attribute", "--attrs", "-l"), ("--attr NAME=VALUE",)),
    **dict.fromkeys(("--when", "--time", "--date"), ("--at TIME",)),
    **dict.fromkeys(("--revision", "--rev", "--generation", "--version"), ("--to GEN",)),
}
"""Options of other programs: what to use instead, if the command has it; the first one counts."""

EXAMPLE_VALUES: "Final[Mapping[str, str]]" = {
    "--store": "sqlite:///rates.db",
    "--scope": "/shop",
    "--log": "access.log",
    "--map": "map.yaml",
    "--attr": "client=acme",
    "--policies": "policies",
    "--reason": "test",
    "--output": "json",
}
"""A value of each option, for hints."""

READING: Final = frozenset((
    "agents", "blame", "check", "diff", "explain", "history", "plan", "show", "simulate", "test",
    "top", "usage", "validate",
))  # fmt: skip
"""Commands that change nothing."""

OTHER_COMMANDS: "Final[Mapping[str, str]]" = {
    **dict.fromkeys(("deploy", "publish", "push", "release", "create", "set"), "apply"),
    **dict.fromkeys(("lint", "verify"), "validate"),
    **dict.fromkeys(("format",), "fmt"),
    **dict.fromkeys(("log", "logs", "list", "ls", "generations", "versions"), "history"),
    **dict.fromkeys(("revert", "undo"), "rollback"),
    **dict.fromkeys(("get", "cat", "export"), "show"),
    **dict.fromkeys(("status", "stats", "metrics", "monitor"), "usage"),
    **dict.fromkeys(("health", "ping"), "doctor"),
    **dict.fromkeys(("dry-run", "preview"), "plan"),
    **dict.fromkeys(("fetch", "download", "clone"), "pull"),
    **dict.fromkeys(("members", "roster", "nodes", "peers"), "cluster"),
    **dict.fromkeys(("describe", "why", "resolve"), "explain"),
    **dict.fromkeys(("canary",), "rollout"),
    **dict.fromkeys(("replay",), "simulate"),
    **dict.fromkeys(("serve", "server", "run", "start", "daemon"), "agent run"),
    **dict.fromkeys(("keygen",), "key generate"),
    **dict.fromkeys(("rules", "codes"), "rule"),
    **dict.fromkeys(("new",), "init"),
}
"""Names of commands in other programs: the command of ratectl that does the same."""
