"""``ratectl rollout``: a candidate that is tried beside the live generation."""

from ratectl_cli.framework.lazy import Entry

__all__ = ["COMMANDS"]

_HERE = "ratectl_cli.commands.rollout_steps"

COMMANDS = {
    "status": Entry("Commands", f"{_HERE}:status", "Show how a rollout stands, or how it ended."),
    "run": Entry("Commands", f"{_HERE}:run", "Control a rollout from here, from stage to stage."),
    "pause": Entry("Commands", f"{_HERE}:pause", "Stay in this stage until `rollout run`."),
    "promote": Entry("Commands", f"{_HERE}:promote", "Make the candidate live now."),
    "abort": Entry("Commands", f"{_HERE}:abort", "Have every agent go back to what is live."),
}
