"""``ratectl key generate``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ratectl.errors import UsageError
from ratectl_cli.framework.session import session_of
from ratectl_cli.framework.text import dim

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl_cli.framework.text import Block


def generate(
    ctx: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of the files NAME.key and NAME.pub.")
    ],
    bind: Annotated[
        bool,
        typer.Option("--bind", help="Bind the keys to the environment of the store (see --store)."),
    ] = False,
) -> int:
    """Make a key pair in two files.

    NAME.key is the private key, which signs generations (--sign). Give it to the pipeline and to
    nobody else. NAME.pub is the public key for agents (--public-key): an agent with public keys
    obeys only what one of them has signed. Never overwrites a file. With --bind both files name
    the environment: the private key signs for no other environment, and agents accept its
    signatures for no other.

    Examples:
      ratectl key generate platform --bind --store etcd://etcd:2379/prod
      ratectl apply policies/ --sign platform.key
      ratectl agent run --public-key platform.pub

    Exit codes:
      0   made
      64  a file exists already, or cannot be written; or cryptography is not installed
      69  store unreachable (--bind)
    """
    from ratectl.signing.continuation import ensure_environment
    from ratectl.signing.signatures import generate_key

    session = session_of(ctx)
    if not name.strip() or name.endswith("/"):
        raise UsageError(f"a key has a name, like platform or keys/platform, not {name!r}")
    private, public = Path(f"{name}.key"), Path(f"{name}.pub")
    environment = None
    if bind:
        with session.store() as store:
            environment = ensure_environment(store).id
    generate_key(private, public, environment)
    session.answer(
        "Key",
        {"private": str(private), "public": str(public), "environment": environment},
        lambda: _blocks(private, public, environment),
    )
    return 0


def _blocks(private: Path, public: Path, environment: str | None) -> "Iterator[Block]":
    yield [dim("private: "), f"{private} (readable by you alone; it is not encrypted)"]
    yield [dim("public:  "), str(public)]
    if environment is not None:
        yield [dim("for:     "), f"environment {environment}"]


__all__ = ["generate"]
