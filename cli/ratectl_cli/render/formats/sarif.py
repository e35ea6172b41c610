"""Findings as SARIF 2.1.0, for code scanning services."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from ratectl.policy.codes import CODES
from ratectl.policy.rules import family, page
from ratectl.version import __version__
from ratectl_cli.render.formats.places import explained, fingerprints, relative

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl.diagnostics import Diagnostic, Span

__all__ = ["sarif"]

_SCHEMA: Final = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
_ROOT: Final = "%SRCROOT%"
"""Name of the repository's directory; the service replaces it."""


def sarif(findings: Sequence[Diagnostic]) -> str:
    """Return one run, with the rules that were broken and a result for finding finding."""
    rules = list(dict.fromkeys(sorted(finding.code for finding in findings)))
    results = [
        _result(finding, rules.index(finding.code), fingerprint)
        for finding, fingerprint in zip(findings, fingerprints(findings), strict=True)
    ]
    severities = {finding.code: finding.severity for finding in findings}
    driver = {
        "name": "ratectl",
        "version": __version__,
        "rules": [_rule(code, severities[code]) for code in rules],
    }
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _rule(code: str, severity: str) -> dict[str, Any]:
    title = CODES.get(code, code)
    rule: dict[str, Any] = {
        "id": code,
        "shortDescription": {"text": title},
        "defaultConfiguration": {"level": severity},
        "properties": {"tags": [family(code)]},
    }
    known = page(code)
    if known is not None:
        rule["fullDescription"] = {"text": known.meaning}
        rule["help"] = {"text": known.text, "markdown": known.markdown}
    return rule


def _result(finding: Diagnostic, rule: int, fingerprint: str) -> dict[str, Any]:
    return {
        "ruleId": finding.code,
        "ruleIndex": rule,
        "level": finding.severity,
        "message": {"text": explained(finding)},
        "locations": [{"physicalLocation": _location(finding.span, finding.source_line)}],
        "partialFingerprints": {"ratectlFinding/v1": fingerprint},
    }


def _location(span: Span, source: str | None) -> dict[str, Any]:
    path = relative(span.file)
    outside = Path(path).is_absolute()
    artifact = {"uri": Path(path).as_uri()} if outside else {"uri": quote(path), "uriBaseId": _ROOT}
    location: dict[str, Any] = {"artifactLocation": artifact}
    if span.line:
        region: dict[str, Any] = {"startLine": span.line, "startColumn": span.column}
        region["endColumn"] = max(span.end_column, span.column + 1)
        if source is not None:
            region["snippet"] = {"text": source[span.column - 1 : span.end_column - 1]}
        location["region"] = region
    return location
