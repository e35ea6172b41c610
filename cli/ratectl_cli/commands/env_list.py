"""``ratectl env list``."""

import typer

from ratectl_cli.framework.session import session_of


def list_(ctx: typer.Context) -> int:
    """List environments, and which of them answer.

    Shows the environments that ratectl.yaml declares, with their stores, live generations and
    protection. The star marks the environment that commands use; the line below the table says
    what chose it. ratectl.yaml is searched from the working directory up to the top of its Git
    repository.

    Examples:
      ratectl env
      ratectl env -e production
      ratectl env -o json | jq -r '.environments[] | select(.chosen) | .store'

    Exit codes:
      0   every environment answers
      1   an environment does not answer, or its store has another name
      64  wrong arguments, RATECTL_ENV or RATECTL_STORE is wrong, or ratectl.yaml is not valid
      77  ratectl.yaml is not used: others may write it
    """
    from ratectl_cli.prompts.environments import listed

    return listed(session_of(ctx))


__all__ = ["list_"]
