"""``ratectl init``."""

import os
import shlex
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ratectl.errors import Refused
from ratectl.runtime import wording
from ratectl.runtime.files import named_path
from ratectl.runtime.whole_files import leads_out
from ratectl_cli.commands.init_pipelines import Platform, cautions, pipeline_files, settings_file
from ratectl_cli.framework.session import session_of
from ratectl_cli.framework.text import bold, dim

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from importlib.resources.abc import Traversable

    from ratectl_cli.framework.text import Block

_FOLDER = "policies"
_SMALL, _FULL = "start", "policies"
"""Folders among the package's examples."""

_PROJECT = Path("ratectl.yaml")
"""Settings, among the package's examples and in DIR."""

_SHOWN = {_SMALL: "/shop/cart --attr tier=gold", _FULL: "/payments/checkout --attr tier=gold"}
"""Arguments of `ratectl explain` to try first."""

_SCHEMA = Path("schemas") / "policy.v1.schema.json"
"""JSON Schema beside the policies. Commit both, so that editors work offline."""


def init(
    ctx: typer.Context,
    directory: Annotated[
        str, typer.Argument(metavar="DIR", help="Directory in which the folder `policies` is made.")
    ] = ".",
    full: Annotated[
        bool,
        typer.Option(
            "--full", help="Write the policies of an example company, with every feature."
        ),
    ] = False,
    ci: Annotated[
        Platform | None,
        typer.Option(
            "--ci",
            metavar="|".join(Platform),
            help="Also write a pipeline; DIR is the top of the repository.",
        ),
    ] = None,
) -> int:
    """Write example policies to start from.

    Writes two commented policies and their tests to DIR/policies: edit them. Writes their JSON
    Schema to DIR/schemas; the first line of each file tells editors where the schema is. Writes
    settings to DIR/ratectl.yaml: the folder of the policies, and environments as a comment. Never
    overwrites a file.

    With --ci, also writes a pipeline. It checks and plans policies on merge requests, publishes
    them from the main branch, and checks on a schedule that no other policies are live. Files that
    exist already are kept, policies too.

    Examples:
      ratectl init
      ratectl init my-service
      ratectl init --full
      ratectl init --ci github

    Exit codes:
      0   written
      77  a file exists already, or cannot be written
    """
    session = session_of(ctx)
    top = named_path("DIR", directory)
    example = _FULL if full else _SMALL
    try:
        files, kept = _wanted(top, example, ci)
        for path in files:
            _check_way(top, path)
        _write(files)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise Refused(f"cannot write {error.filename or top / _FOLDER}: {why}") from error
    target = top / _FOLDER
    following = _next(target, None if target in kept else example)
    data = {
        "directory": str(target),
        "files": [str(path) for path in files],
        "kept": [str(path) for path in kept],
        "next": following,
    }
    settings = settings_file(ci, top, kept) if ci is not None else None
    session.answer("Init", data, lambda: _blocks(files, kept, following, settings))
    if ci is not None:
        for caution in cautions(ci, top, kept):
            session.warn(caution)
    return 0


def _wanted(top: Path, example: str, ci: Platform | None) -> tuple[dict[Path, bytes], list[Path]]:
    """Return the files to write, by path, and the paths that are kept.

    :raises Refused: files exist already, and nothing else is to be written.
    """
    target = top / _FOLDER
    existing = _existing_files(target)
    if ci is None and existing:
        listed = wording.listed(existing, 10)
        refused = Refused(f"{target} holds files already, and init never overwrites: {listed}")
        refused.add_note("move these files away, or name another folder: ratectl init other")
        raise refused
    files = {} if existing else _tree(target, example) | _schema(top / _SCHEMA)
    kept = [target] if existing else []
    others = {} if existing else _project(top / _PROJECT)
    for path, data in {**others, **(pipeline_files(ci, top) if ci else {})}.items():
        if os.path.lexists(path):
            kept.append(path)
        else:
            files[path] = data
    if not files:
        listed = ", ".join(map(str, kept))
        raise Refused(f"there is nothing to write, and init never overwrites: {listed}")
    return files, kept


def _existing_files(target: Path) -> list[str]:
    if os.path.lexists(target) and not target.is_dir():
        raise Refused(f"{target} is in the way: it is not a folder")
    return sorted(str(path) for path in target.rglob("*") if not path.is_dir())


def _tree(target: Path, example: str) -> dict[Path, bytes]:
    source = resources.files("ratectl_cli") / "examples" / example
    return {
        target.joinpath(*parts): _modeline(len(parts)) + file.read_bytes()
        for parts, file in _files(source, ())
    }


def _modeline(depth: int) -> bytes:
    """Return the comment that names the schema for editors; ``depth`` is the level below DIR."""
    return f"# yaml-language-server: $schema={'../' * depth}{_SCHEMA.as_posix()}\n".encode()


def _schema(path: Path) -> dict[Path, bytes]:
    """Return the schema, unless it exists: it may be newer than that of this version."""
    from ratectl.policy.language.schema import schema_text

    return {} if os.path.lexists(path) else {path: schema_text().encode("ascii")}


def _project(path: Path) -> dict[Path, bytes]:
    source = resources.files("ratectl_cli") / "examples" / "project" / _PROJECT.name
    return {path: source.read_bytes()}


def _files(
    folder: "Traversable", above: tuple[str, ...]
) -> "Iterator[tuple[tuple[str, ...], Traversable]]":
    for entry in sorted(folder.iterdir(), key=lambda entry: (entry.is_dir(), entry.name)):
        if entry.is_dir():
            yield from _files(entry, (*above, entry.name))
        elif entry.name.endswith(".yaml"):
            yield (*above, entry.name), entry


def _check_way(top: Path, path: Path) -> None:
    """Check that the folders of ``path`` can be made, before anything is written.

    :raises Refused: something is in the way, or a link leads out of ``top``.
    """
    if leads_out(top, path.parent):
        raise Refused(f"{path.parent} leads out of {top} by a link: remove that link")
    for above in path.parents:
        if above.is_dir():
            return
        if os.path.lexists(above):
            raise Refused(f"{above} is in the way: it is not a folder")


def _write(files: "Mapping[Path, bytes]") -> None:
    for path, data in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as new:
            new.write(data)


def _next(target: Path, example: str | None) -> list[str]:
    """Return the commands to run next; ``example`` is the tree that was written, None if kept."""
    place = shlex.quote(str(target) + os.sep)
    begin = [f"ratectl validate {place}", f"ratectl test {place}"]
    if example is None:
        return [*begin, f"ratectl plan {place}"]
    return [
        *begin,
        f"ratectl explain {_SHOWN[example]} --policies {place}",
        f"ratectl apply {place}",
    ]


def _blocks(
    files: "Iterable[Path]",
    kept: "Iterable[Path]",
    following: "Sequence[str]",
    settings: str | None,
) -> "Iterator[Block]":
    for path in files:
        yield [bold("wrote ", "green"), str(path)]
    for path in kept:
        yield [dim("kept  "), str(path)]
    yield dim("next:")
    for command in following:
        yield f"  {command}"
    if settings is not None:
        yield [dim("before the first pipeline: "), f"fill in the settings at the top of {settings}"]


__all__ = ["init"]
