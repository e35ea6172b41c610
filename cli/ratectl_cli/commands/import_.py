"""``ratectl import``: limits of other rate limiters as policies."""

from ratectl_cli.framework.lazy import Entry

__all__ = ["COMMANDS"]

COMMANDS = {
    "envoy": Entry(
        "Commands",
        "ratectl_cli.commands.import_envoy:envoy",
        "Turn files of envoyproxy/ratelimit into policies and a mapping.",
    ),
}
