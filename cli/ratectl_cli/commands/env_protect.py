"""``ratectl env protect`` and ``ratectl env unprotect``."""

from typing import Annotated

import typer

from ratectl_cli.framework.session import session_of

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="Environment of ratectl.yaml; with --store, the name that this store gets.",
    ),
]


def protect(
    ctx: typer.Context,
    name: Name,
    confirm: Annotated[
        bool,
        typer.Option("--confirm", help="Publishing needs the environment's name as confirmation."),
    ] = False,
    sign_required: Annotated[
        bool,
        typer.Option("--sign-required", help="Generations and kill switches have to be signed."),
    ] = False,
) -> int:
    """Require a name or a signature for changes of an environment.

    The protection is kept in the store, with the environment's name: it applies to everybody who
    changes the store, also with --store. Without options, the store gets the protection that
    ratectl.yaml declares for the environment. Protection is added to what the store has already;
    `ratectl env unprotect` removes it. It prevents mistakes: whoever may write to the store can
    also remove it.

    Examples:
      ratectl env protect production
      ratectl env protect production --confirm --sign-required
      ratectl env protect production --confirm --store etcd://etcd:2379/prod

    Exit codes:
      0   protected
      64  wrong arguments, or there is no such environment
      69  store unreachable
      75  somebody changed it at the same time
      77  the store has another name, or ratectl.yaml is not used
    """
    from ratectl_cli.prompts.environments import protected

    return protected(session_of(ctx), name, confirm=confirm, sign=sign_required)


def unprotect(
    ctx: typer.Context,
    name: Name,
    confirm: Annotated[
        str | None,
        typer.Option("--confirm", metavar="NAME", help="Name of the environment, again."),
    ] = None,
) -> int:
    """Remove the protection of an environment.

    Removes all protection and the name from the store, after the name is written once more: at the
    prompt, or with --confirm. --yes does not replace it. Protection that ratectl.yaml declares
    stays. This is also how a wrong name is corrected: remove it, and protect again.

    Examples:
      ratectl env unprotect production
      ratectl env unprotect production --confirm production
      ratectl env unprotect prodution --store etcd://etcd:2379/prod

    Exit codes:
      0   unprotected
      1   declined: another name was written
      64  wrong arguments, no such environment, or nobody to ask and no --confirm
      69  store unreachable
      75  somebody changed it at the same time
      77  there is neither protection nor name, the store has another name, or ratectl.yaml is not
          used
    """
    from ratectl_cli.prompts.environments import unprotected

    return unprotected(session_of(ctx), name, confirm)


__all__ = ["protect", "unprotect"]
