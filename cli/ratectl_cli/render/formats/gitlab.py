"""Findings as a code quality report, which GitLab shows in the merge request and its diff."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from ratectl_cli.render.formats.places import explained, fingerprints, relative

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl.diagnostics import Diagnostic

__all__ = ["code_quality"]

_SEVERITIES: Final = {"error": "major", "warning": "minor"}


def code_quality(findings: Sequence[Diagnostic]) -> str:
    """Return a JSON list; GitLab pairs findings of two branches by fingerprint."""
    report = [
        {
            "description": f"{finding.code}: {explained(finding, between='; ')}",
            "check_name": finding.code,
            "fingerprint": fingerprint,
            "severity": _SEVERITIES[finding.severity],
            "location": {
                "path": relative(finding.span.file),
                "lines": {"begin": max(finding.span.line, 1)},
            },
        }
        for finding, fingerprint in zip(findings, fingerprints(findings), strict=True)
    ]
    return json.dumps(report, indent=2) + "\n"
