"""``ratectl rule``."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ratectl.errors import UsageError
from ratectl_cli.framework.session import session_of
from ratectl_cli.framework.text import bold, dim

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl_cli.framework.text import Block


def rule(
    ctx: typer.Context,
    code: Annotated[
        str | None, typer.Argument(metavar="CODE", help="Such as RC201; without it, all.")
    ] = None,
) -> int:
    """Explain a code that `ratectl validate` reports.

    What it means, why it matters, and an example of wrong and right. Without a code, all of them
    with a line each: RC1xx a file is not readable as a policy, RC2xx the tree does not hold
    together, RC3xx it does, but probably not as meant, RC4xx a test makes no sense.

    Examples:
      ratectl rule RC201
      ratectl rule
      ratectl rule RC201 -o json | jq -r .good

    Exit codes:
      0   explained
      64  there is no such code
    """
    from ratectl.policy.codes import CODES

    session = session_of(ctx)
    if code is None:
        session.answer("Rules", {"rules": [_line(each) for each in sorted(CODES)]}, _list)
        return 0
    wanted = code.strip().upper()
    if wanted not in CODES:
        raise UsageError(f"{code!r} is no code of a finding; `ratectl rule` lists them")
    session.answer("Rule", _data(wanted), lambda: _page(wanted))
    return 0


def _line(code: str) -> dict[str, Any]:
    from ratectl.policy.codes import CODES
    from ratectl.policy.rules import family

    return {"code": code, "title": CODES[code], "family": family(code)}


def _list() -> "Iterator[Block]":
    from ratectl.policy.codes import CODES

    for code in sorted(CODES):
        yield [bold(code), f"  {CODES[code]}"]
    yield ""
    yield dim("ratectl rule CODE explains one")


def _data(code: str) -> dict[str, Any]:
    from ratectl.policy.rules import page

    known = page(code)
    names = ("meaning", "why", "bad", "good")
    return {**_line(code), **{name: getattr(known, name, None) for name in names}}


def _page(code: str) -> "Iterator[Block]":
    from ratectl.policy.rules import page

    line, known = _line(code), page(code)
    yield [bold(f"{code}: {line['title']}"), dim(f"  ({line['family']})")]
    yield ""
    for text in known.text.splitlines() if known else ("This code has no page yet.",):
        yield bold(text) if text in ("Wrong:", "Right:") else text


__all__ = ["rule"]
