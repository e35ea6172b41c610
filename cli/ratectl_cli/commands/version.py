"""``ratectl version``."""

import platform

import typer

from ratectl_cli.framework.session import session_of
from ratectl_cli.framework.text import Aligned, Block, bold


def version(ctx: typer.Context) -> int:
    """Print the version and the engine.

    The engine is `c`, or `pure` and the reason why there is no compiled core.
    RATECTL_ENGINE chooses: `auto` (the default), `c` or `pure`.

    Examples:
      ratectl version
      ratectl version -o json

    Exit codes:
      0  always
    """
    from ratectl.engine import describe_engine, engine_type, why_not_compiled
    from ratectl.version import __version__

    data = {
        "version": __version__,
        "engine": engine_type().name,
        "compiled": not why_not_compiled(),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }

    def blocks() -> list[Block]:
        rows = [
            ("engine", describe_engine()),
            *((name, str(data[name])) for name in ("python", "platform")),
        ]
        return [bold(f"ratectl {__version__}"), Aligned(rows)]

    session_of(ctx).answer("Version", data, blocks)
    return 0
