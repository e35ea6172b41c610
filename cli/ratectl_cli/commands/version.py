"""``ratectl version``."""

import platform

import typer

from ratectl_cli.session import session_of
from ratectl_cli.text import Line, aligned, bold


def version(ctx: typer.Context) -> int:
    """Print the version and the engine.

    Examples:
      ratectl version
      ratectl version -o json

    Exit codes:
      0  always
    """
    from ratectl.engine import open_engine
    from ratectl.version import __version__

    data = {
        "version": __version__,
        "engine": open_engine(lambda: 0).name,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }

    def blocks() -> list[Line]:
        rows = [(name, data[name]) for name in ("engine", "python", "platform")]
        return [bold(f"ratectl {__version__}"), *aligned(rows)]

    session_of(ctx).answer("Version", data, blocks)
    return 0
