"""``ratectl demo``."""

from typing import TYPE_CHECKING, Annotated

import typer

from ratectl_cli.framework.session import session_of
from ratectl_cli.framework.text import plural

if TYPE_CHECKING:
    from ratectl_cli.demo.feed import FeedFigures


def demo(
    ctx: typer.Context,
    log: Annotated[
        str | None,
        typer.Option(
            "--log",
            metavar="FILE",
            help="Replay this access log (common or combined format, .gz too) instead of "
            "generated traffic.",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", help="Seed of the generated traffic.")
    ] = 1,
    speed: Annotated[
        float | None,
        typer.Option(
            "--speed",
            metavar="FACTOR",
            min=0.001,
            max=1e9,
            help="Speed relative to the recording.  [default: 150 requests a second for each "
            "agent]",
        ),
    ] = None,
    duration: Annotated[
        float,
        typer.Option(
            "--duration",
            metavar="SECONDS",
            min=6,
            max=3600,
            help="Duration of the traffic: a third each before, during and after the change.",
        ),
    ] = 7.5,
    agents: Annotated[
        int, typer.Option("--agents", metavar="N", min=1, max=8, help="Number of agent processes.")
    ] = 2,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the policies and the store.")] = False,
) -> int:
    """Run a demonstration with real agents and traffic.

    Publishes example policies, starts agent processes under traffic like that of a website,
    tightens a limit, and rolls back. Prints each command with its real output. Uses a temporary
    SQLite store. --store names another store; its environment must be empty or left from an
    earlier demo, and is emptied at the end. RATECTL_STORE is ignored.

    Examples:
      ratectl demo
      ratectl demo --store etcd://127.0.0.1:2379/demo
      ratectl demo --log access.log.gz --keep

    Exit codes:
      0    everything happened as shown
      1    something did not
      64   wrong arguments, or a log that cannot be replayed
      69   store unreachable
      77   the store holds generations that are not the demo's
      130  interrupted
    """
    from ratectl_cli.demo.feed import plan_feed
    from ratectl_cli.demo.fleet import DemoFailed
    from ratectl_cli.demo.stage import set_up
    from ratectl_cli.demo.story import Plan, Story

    session = session_of(ctx)
    with session.busy("reading the log"):
        feed, figures = plan_feed(seed, log, speed, agents=agents, stretch=duration / 3)
    plan = Plan(feed, _source(figures), agents, duration / 3)
    with set_up(session.choice.named_store, keep=keep) as stage:
        story = Story(session, stage, plan, ctx.obj)
        problem = None
        try:
            story.show()
        except DemoFailed as failed:
            problem = str(failed)
        if keep:
            story.say(f"Kept: {stage.folder}", f"export RATECTL_STORE={stage.store}")
        data = {"succeeded": problem is None, "problem": problem, **story.data()}
        session.answer("Demo", data, list)
        if problem is not None and session.text:
            session.warn(f"the demo failed: {problem}")
    return 0 if problem is None else 1


def _source(figures: "FeedFigures") -> str:
    if figures.requests is None:
        return figures.source
    notes = [f"{plural(figures.malformed, 'malformed line')} skipped"] if figures.malformed else []
    if figures.late:
        notes.append(f"{plural(figures.late, 'line')} came too late to be put in order")
    detail = f" ({', '.join(notes)})" if notes else ""
    return f"{figures.requests:,} requests of {figures.source}{detail}"


__all__ = ["demo"]
