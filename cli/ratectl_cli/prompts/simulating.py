"""`ratectl simulate`: replay a log, compare and judge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratectl.history.trees import live_tree
from ratectl.simulate import Assertion
from ratectl_cli.inputs.policies import read_valid
from ratectl_cli.inputs.replays import Recording, replay_recording
from ratectl_cli.prompts.replaying import complain_of_no_request
from ratectl_cli.render.simulation import Inputs, simulation_blocks, simulation_data

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl.policy.language.model import PolicyTree
    from ratectl_cli.framework.session import Session

__all__ = ["simulated"]


def simulated(
    session: Session,
    path: str,
    log: str,
    map_file: str,
    *,
    against: str | None,
    assertions: Sequence[str],
    window_ns: int,
) -> int:
    """Replay a log through the policies at ``path``, print the result; return the exit code."""
    wanted = [Assertion.parse(text) for text in assertions]
    with session.busy("reading policies"):
        recording = Recording.of(log, map_file, "--log")
        policies = _policies(session, path, against)
    inputs = Inputs(path, log, map_file, against and policies[1][0])
    report = replay_recording(session, recording, policies, window_ns=window_ns)
    outcomes = [assertion.judge(report.sides[0]) for assertion in wanted]
    session.answer(
        "Simulation",
        simulation_data(inputs, report, outcomes),
        lambda: simulation_blocks(
            inputs, report, outcomes, session.out, unfold=bool(session.options.verbose)
        ),
    )
    if not report.requests:
        complain_of_no_request(session, log, report)
        return 1
    return 0 if all(outcome.holds for outcome in outcomes) else 1


def _policies(session: Session, path: str, against: str | None) -> list[tuple[str, PolicyTree]]:
    """Return the policies to replay through with their names, then those to compare with."""
    named = [(path, read_valid([path]).tree)]
    if against == "live":
        with session.store() as store:
            generation, tree = live_tree(store)
        named.append((f"generation {generation}", tree))
    elif against is not None:
        named.append((against, read_valid([against]).tree))
    return named
