"""``ratectl help``."""

from typing import Annotated, Any

import typer

from ratectl.errors import UsageError
from ratectl_cli.framework.session import session_of


def help_(
    ctx: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="TOPIC|COMMAND", help="What to explain.  [default: list topics]"),
    ] = None,
) -> int:
    """Explain a topic, or show the help of a command.

    Without an argument, lists the topics.

    Examples:
      ratectl help
      ratectl help exit-codes
      ratectl help rollout run

    Exit codes:
      0   explained
      64  there is no such topic or command
    """
    from ratectl_cli.render import topics as render

    session = session_of(ctx)
    known = render.topics()
    name = " ".join(words or [])
    if not words:
        session.answer("Topics", render.topics_data(known), lambda: render.topics_blocks(known))
        return 0
    if name in known:
        session.answer("Topic", render.topic_data(known[name]), lambda: known[name].lines)
        return 0
    text = _command_help(ctx, words)
    if text is None:
        raise UsageError(_unknown(name, [*known, *_commands(ctx, words[0])]))
    session.answer("CommandHelp", {"command": name, "text": text}, text.splitlines)
    return 0


def _root(ctx: Any) -> Any:
    return ctx.find_root()


def _command_help(ctx: typer.Context, words: list[str]) -> str | None:
    """Return the help of a command, or of a command of a group; None if there is none."""
    place = _root(ctx)
    for word in words:
        group = place.command
        command = group.get_command(place, word) if hasattr(group, "get_command") else None
        if command is None:
            return None
        name, above = word, place
        if not hasattr(group, "resolve_command"):  # it is no group: see `Entry.below`
            name, above = f"{place.info_name} {word}", place.parent
        place = command.context_class(command, info_name=name, parent=above)
    text: str = place.get_help()
    return text


def _commands(ctx: typer.Context, first: str) -> list[str]:
    """Return the names of all commands, and of those in the group that ``first`` names."""
    root = _root(ctx)
    group = root.command.get_command(root, first)
    inner = group.list_commands(ctx) if hasattr(group, "list_commands") else []
    return [*root.command.list_commands(ctx), *(f"{first} {name}" for name in inner)]


def _unknown(name: str, known: list[str]) -> str:
    from ratectl.runtime.closest import closest

    meant = closest(name.lower(), known, 0.5)
    nearest = f"did you mean {meant}? " if meant else ""
    return f"there is no topic or command {name!r}: {nearest}`ratectl help` lists the topics"


__all__ = ["help_"]
