"""``ratectl export``: policies as files of other rate limiters."""

from ratectl_cli.framework.lazy import Entry

__all__ = ["COMMANDS"]

COMMANDS = {
    "envoy": Entry(
        "Commands",
        "ratectl_cli.commands.export_envoy:envoy",
        "Turn policies and a mapping into files of envoyproxy/ratelimit.",
    ),
}
