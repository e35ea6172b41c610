"""``ratectl diff``."""

from typing import TYPE_CHECKING, Annotated

import typer

from ratectl.errors import UsageError
from ratectl_cli.framework.session import Session, session_of
from ratectl_cli.inputs.sets import Prune, SetName, choice_of
from ratectl_cli.render.sets import set_blocks, set_data

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl.changes.compare import Change
    from ratectl.policy.language.model import PolicyTree
    from ratectl.publishing.ownership import Merged
    from ratectl.publishing.sets import SetChoice
    from ratectl.records import HistoryEntry
    from ratectl.stores.base import Store
    from ratectl_cli.framework.text import Block


def diff(
    ctx: typer.Context,
    path: Annotated[
        str | None,
        typer.Argument(metavar="PATH", help="File or directory of policies, or - for stdin."),
    ] = None,
    from_: Annotated[
        int | None,
        typer.Option("--from", metavar="GEN", min=1, help="Generation.  [default: the live one]"),
    ] = None,
    to: Annotated[
        int | None,
        typer.Option("--to", metavar="GEN", min=1, help="Generation, in place of PATH."),
    ] = None,
    set_: SetName = None,
    prune: Prune = False,
) -> int:
    """Compare policies with the live generation, or two generations.

    Compares what requests would notice: `60/min` and `1/s` are one token bucket, and a comment is
    no difference. From the live generation to PATH it is what `ratectl apply PATH` would do, so 1
    means that somebody changed either: run it on a schedule, as a gate against drift.

    Examples:
      ratectl diff policies/
      ratectl diff --from 411 --to 412
      ratectl diff --from 411 policies/
      ratectl diff --set payments --prune policies/

    Exit codes:
      0   no request would notice
      1   there are differences
      64  wrong arguments, or no such generation
      65  invalid policies, nothing published, or a damaged generation
      69  store unreachable
      77  PATH holds what belongs to another set, or nothing (--set)
    """
    from ratectl.history.trees import find_entry

    session = session_of(ctx)
    if path is not None and to is not None:
        raise UsageError("--to is in place of PATH: leave one of them out")
    if path is None and to is None:
        raise UsageError("what to compare with? Give PATH, or --to GEN")
    choice = choice_of(set_, prune=prune)
    if choice is not None:
        if path is None or from_ is not None:
            raise UsageError("--set compares PATH with what is live: leave out --from and --to")
        return _of_set(session, path, choice)
    tree = None if path is None else _read(session, path)
    with session.store() as store, session.busy("comparing"):
        live = find_entry(store, None)
        old, base = _generation(store, live, from_)
        new, target = (tree, path) if tree is not None else _generation(store, live, to)
    return _answer(session, old, new, f"{target} against {base}")


def _of_set(session: Session, path: str, choice: "SetChoice") -> int:
    """Compare what publishing the set would make live."""
    from ratectl.errors import NothingPublished
    from ratectl.history.generations import read_entry, read_live, read_tree
    from ratectl.publishing.sets import assemble
    from ratectl_cli.inputs.policies import read_source

    with session.busy("reading policies"):
        source = read_source(path, part=True)
    with session.store() as store, session.busy("comparing"):
        base = read_live(store)
        if base.head is None:
            raise NothingPublished(store.url)
        live = read_tree(store, read_entry(store, base.generation))
        whole = assemble(store, base, live, source, choice)
    title = f"set {choice.name} of {path} against generation {base.generation} (live)"
    return _answer(session, live, whole.loaded.tree, title, whole.merged)


def _read(session: Session, path: str) -> "PolicyTree":
    from ratectl_cli.inputs.policies import read_valid

    with session.busy("reading policies"):
        return read_valid([path]).tree


def _generation(
    store: "Store", live: "HistoryEntry", number: int | None
) -> "tuple[PolicyTree, str]":
    from ratectl.history.generations import read_tree
    from ratectl.history.trees import find_entry

    if number is None or number == live.generation:
        return read_tree(store, live), f"generation {live.generation} (live)"
    return read_tree(store, find_entry(store, number)), f"generation {number}"


def _answer(
    session: Session,
    old: "PolicyTree",
    new: "PolicyTree",
    title: str,
    merged: "Merged | None" = None,
) -> int:
    from ratectl.changes.compare import compare
    from ratectl.policy.bundle import encode_policies
    from ratectl_cli.render.changes import change_data
    from ratectl_cli.render.times import now_ns

    changes = compare(old, new, now_ns())
    data = {
        "title": title,
        "differs": bool(changes),
        "identical": encode_policies(old) == encode_policies(new),
        "changes": [change_data(change) for change in changes],
        **set_data(merged.name if merged else None, merged),
    }
    unfold = bool(session.options.verbose)
    session.answer(
        "Difference",
        data,
        lambda: [*_blocks(data, changes, unfold=unfold), *set_blocks(merged)],
    )
    return 1 if changes else 0


def _blocks(
    data: "dict[str, object]", changes: "list[Change]", *, unfold: bool
) -> "Iterator[Block]":
    from ratectl_cli.render.changes import change_blocks, changes_line

    yield str(data["title"])
    if changes:
        yield ""
        yield from change_blocks(changes, unfold=unfold)
        yield ""
        yield changes_line(changes)
    elif data["identical"]:
        yield "no differences"
    else:
        yield "no request would notice: only descriptions, owners, caps or spelling differ"


__all__ = ["diff"]
