"""GitLab's code quality report: findings in the merge request's widget and in its diff."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from ratectl_cli.render.formats.places import explained, fingerprints, relative

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl.diagnostics import Diagnostic

__all__ = ["code_quality"]

_SEVERITIES: Final = {"error": "major", "warning": "minor"}


def code_quality(found: Sequence[Diagnostic]) -> str:
    """A JSON list; GitLab pairs the reports of two branches by fingerprint."""
    report = [
        {
            "description": f"{each.code}: {explained(each, between='; ')}",
            "check_name": each.code,
            "fingerprint": fingerprint,
            "severity": _SEVERITIES[each.severity],
            "location": {
                "path": relative(each.span.file),
                "lines": {"begin": max(each.span.line, 1)},
            },
        }
        for each, fingerprint in zip(found, fingerprints(found), strict=True)
    ]
    return json.dumps(report, indent=2) + "\n"
