"""``ratectl rollout``: try a candidate beside the live generation."""

from ratectl_cli.framework.lazy import Entry

__all__ = ["COMMANDS"]

_HERE = "ratectl_cli.commands.rollout_steps"

COMMANDS = {
    "status": Entry("Commands", f"{_HERE}:status", "Show the state of the last rollout."),
    "run": Entry("Commands", f"{_HERE}:run", "Control a rollout: move it from stage to stage."),
    "pause": Entry("Commands", f"{_HERE}:pause", "Stay in the current stage until `rollout run`."),
    "promote": Entry("Commands", f"{_HERE}:promote", "Make the candidate live now."),
    "abort": Entry(
        "Commands", f"{_HERE}:abort", "End the rollout: every agent returns to the live generation."
    ),
}
