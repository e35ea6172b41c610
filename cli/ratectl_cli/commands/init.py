"""``ratectl init``."""

import os
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ratectl_cli.errors import Refused
from ratectl_cli.session import session_of
from ratectl_cli.text import bold, dim

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from importlib.resources.abc import Traversable

    from ratectl_cli.text import Block

_FOLDER = "policies"
_SMALL, _FULL = "start", "policies"
"""Folders among the package's examples."""

_SHOWN = {_SMALL: "/shop/cart --attr tier=gold", _FULL: "/payments/checkout --attr tier=gold"}
"""What is worth explaining first."""

_SCHEMA = Path("schemas") / "policy.v1.schema.json"
"""Where the JSON Schema is, beside the policies: commit both, and editors work offline."""


def init(
    ctx: typer.Context,
    directory: Annotated[
        str, typer.Argument(metavar="DIR", help="Where to put the folder `policies`.")
    ] = ".",
    full: Annotated[
        bool, typer.Option("--full", help="A whole company's policies: every feature once.")
    ] = False,
) -> int:
    """Write a small tree of policies to start from.

    Two commented policies and their tests, in DIR/policies: edit them. Their JSON Schema goes to
    DIR/schemas, and the first line of each file tells editors where it is. Never overwrites a
    file.

    Examples:
      ratectl init
      ratectl init my-service
      ratectl init --full

    Exit codes:
      0   written
      77  there are files in DIR/policies already, or it cannot be written
    """
    session = session_of(ctx)
    target = Path(directory) / _FOLDER
    example = _FULL if full else _SMALL
    try:
        _guard(target)
        written = _write(target, example)
        written += _write_schema(Path(directory) / _SCHEMA)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise Refused(f"cannot write {error.filename or target}: {why}") from error
    files = [str(path) for path in written]
    following = _next(target, example)
    data = {"directory": str(target), "files": files, "next": following}
    session.answer("Init", data, lambda: _blocks(written, following))
    return 0


def _guard(target: Path) -> None:
    if target.exists() and not target.is_dir():
        raise Refused(f"{target} is in the way: it is not a folder")
    found = sorted(str(path) for path in target.rglob("*") if not path.is_dir())
    if found:
        more = f" and {len(found) - 10} more" if len(found) > 10 else ""
        listed = ", ".join(found[:10]) + more
        raise Refused(f"{target} holds files already, and init never overwrites: {listed}")


def _write(target: Path, example: str) -> list[Path]:
    written = []
    source = resources.files("ratectl_cli") / "examples" / example
    for parts, file in _files(source, ()):
        path = target.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as new:
            new.write(_modeline(len(parts)) + file.read_bytes())
        written.append(path)
    return written


def _modeline(depth: int) -> bytes:
    """The comment by which editors find the schema of a file so many levels below DIR."""
    return f"# yaml-language-server: $schema={'../' * depth}{_SCHEMA.as_posix()}\n".encode()


def _write_schema(path: Path) -> list[Path]:
    """Write the schema, unless there is one: it may be newer than this version's."""
    from ratectl.policy.schema import schema_text

    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="ascii") as new:
            new.write(schema_text())
    except FileExistsError:
        return []
    return [path]


def _files(
    folder: "Traversable", above: tuple[str, ...]
) -> "Iterator[tuple[tuple[str, ...], Traversable]]":
    for entry in sorted(folder.iterdir(), key=lambda entry: (entry.is_dir(), entry.name)):
        if entry.is_dir():
            yield from _files(entry, (*above, entry.name))
        elif entry.name.endswith(".yaml"):
            yield (*above, entry.name), entry


def _next(target: Path, example: str) -> list[str]:
    import shlex

    place = shlex.quote(str(target) + os.sep)
    return [
        f"ratectl validate {place}",
        f"ratectl test {place}",
        f"ratectl explain {_SHOWN[example]} --policies {place}",
        f"ratectl apply {place}",
    ]


def _blocks(written: "Sequence[Path]", following: "Sequence[str]") -> "Iterator[Block]":
    for path in written:
        yield [bold("wrote ", "green"), str(path)]
    yield dim("next:")
    for command in following:
        yield f"  {command}"


__all__ = ["init"]
