"""``ratectl blame``."""

from typing import TYPE_CHECKING, Annotated

import typer

from ratectl.errors import NotFound
from ratectl_cli.commands.history import action_text, commit_text, message_text
from ratectl_cli.framework.session import session_of
from ratectl_cli.framework.text import Column, Table, bold

if TYPE_CHECKING:
    from ratectl.history.blame import Blamed


def blame(
    ctx: typer.Context,
    scope: Annotated[str, typer.Argument(metavar="SCOPE", help="Scope, like /payments/checkout.")],
) -> int:
    """Show which generation last changed each value at a scope.

    Of the live generation, for requests that satisfy no condition. A value counts as changed where
    requests would notice: `60/min` written as `1/s` is the same rate of a token bucket.

    Examples:
      ratectl blame /payments/checkout
      ratectl blame / -o json

    Exit codes:
      0   printed
      64  that is no scope
      65  nothing is published, no policy covers the scope, or a damaged generation
      69  store unreachable
    """
    from ratectl.history.blame import blame as find
    from ratectl.history.trees import find_entry
    from ratectl_cli.inputs.policies import scope_of

    session = session_of(ctx)
    scope = scope_of(scope)
    with session.store() as store, session.busy("reading generations"):
        live = find_entry(store, None)
        found = find(store, live, scope)
    if found is None:
        raise NotFound(f"no policy of generation {live.generation} covers {scope}")
    data = {"scope": scope, "live": live.generation, "values": [_data(each) for each in found]}
    session.answer("Blame", data, lambda: [_table(found)])
    return 0


def _data(blamed: "Blamed") -> "dict[str, object]":
    entry = blamed.entry
    return {
        "limit": blamed.limit,
        "field": blamed.field,
        "value": blamed.value,
        "generation": entry.generation,
        "certain": blamed.certain,
        "time": entry.time,
        "author": entry.author,
        "commit": entry.commit,
        "message": entry.message,
    }


def _table(found: "list[Blamed]") -> Table:
    from ratectl_cli.render import times

    titles = ("LIMIT", "FIELD", "VALUE", "GENERATION", "TIME", "AUTHOR", "COMMIT", "CHANGE")
    table = Table([Column(title, title == "GENERATION", title == "CHANGE") for title in titles])
    at, last = times.now(), ""
    for each in found:
        entry, name = each.entry, each.limit or "-"
        table.rows.append(
            (
                bold(name) if name != last else "",
                each.field,
                each.value,
                f"{'' if each.certain else '≤ '}{entry.generation}",
                times.ago(entry.time, at),
                entry.author.partition(" <")[0],
                commit_text(entry),
                message_text(entry) or action_text(entry),
            )
        )
        last = name
    return table


__all__ = ["blame"]
