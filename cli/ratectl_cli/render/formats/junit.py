"""Findings as JUnit XML: a suite for each file, a case for each finding, or one that passes."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

from ratectl.runtime.wording import printable
from ratectl_cli.render.formats.places import explained

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl.diagnostics import Diagnostic, Severity

__all__ = ["junit", "report_text"]


def junit(findings: Sequence[Diagnostic], files: Sequence[str], fail_level: Severity) -> str:
    """Return a report; findings below ``fail_level`` are cases that pass, with a remark."""
    by_file: dict[str, list[Diagnostic]] = {file: [] for file in files}
    for finding in findings:
        by_file.setdefault(finding.span.file, []).append(finding)
    suites = [_suite(file, of_file, fail_level) for file, of_file in by_file.items()]
    return report_text("ratectl validate", suites)


def report_text(name: str, suites: Sequence[ElementTree.Element]) -> str:
    """Return a whole report; its counts are the sums of its suites."""
    root = ElementTree.Element("testsuites", name=name)
    for count in ("tests", "failures", "errors"):
        root.set(count, str(sum(int(suite.get(count, "0")) for suite in suites)))
    root.extend(suites)
    ElementTree.indent(root)
    # In ASCII, with references for other characters: right in every locale.
    data: bytes = ElementTree.tostring(root, encoding="us-ascii", xml_declaration=True)
    return f"{data.decode()}\n"


def _suite(file: str, findings: Sequence[Diagnostic], fail_level: Severity) -> ElementTree.Element:
    failed = [fail_level in ("warning", finding.severity) for finding in findings]
    suite = ElementTree.Element(
        "testsuite",
        name=printable(file),
        tests=str(len(findings) or 1),
        failures=str(sum(failed)),
        errors="0",
    )
    if not findings:
        ElementTree.SubElement(suite, "testcase", classname=printable(file), name="no findings")
    for finding, fails in zip(findings, failed, strict=True):
        place = f"{finding.span.line}:{finding.span.column} " if finding.span.line else ""
        case = ElementTree.SubElement(
            suite, "testcase", classname=printable(file), name=f"{place}{finding.code}"
        )
        if fails:
            attributes = {"type": finding.severity, "message": printable(finding.message)}
            ElementTree.SubElement(case, "failure", attributes).text = _detail(finding)
        else:
            ElementTree.SubElement(case, "system-out").text = _detail(finding)
    return suite


def _detail(finding: Diagnostic) -> str:
    source = "" if finding.source_line is None else f"\n| {printable(finding.source_line)}"
    place = printable(str(finding.span))
    return f"{place}: {finding.severity}[{finding.code}]: {explained(finding)}{source}"
