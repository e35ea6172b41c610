"""JUnit XML: a suite for each file, a case for each finding, and one for a file without any."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

from ratectl_cli.framework.terminal import safe
from ratectl_cli.render.formats.places import explained

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl.diagnostics import Diagnostic, Severity

__all__ = ["junit", "report_text"]


def junit(found: Sequence[Diagnostic], files: Sequence[str], fail_level: Severity) -> str:
    """A report in which findings below ``fail_level`` are cases that passed, with a remark."""
    by_file: dict[str, list[Diagnostic]] = {file: [] for file in files}
    for each in found:
        by_file.setdefault(each.span.file, []).append(each)
    suites = [_suite(file, of_file, fail_level) for file, of_file in by_file.items()]
    return report_text("ratectl validate", suites)


def report_text(name: str, suites: Sequence[ElementTree.Element]) -> str:
    """A whole report; its counts are the sums of the suites'."""
    root = ElementTree.Element("testsuites", name=name)
    for count in ("tests", "failures", "errors"):
        root.set(count, str(sum(int(suite.get(count, "0")) for suite in suites)))
    root.extend(suites)
    ElementTree.indent(root)
    # In ASCII, with references for other characters: right in every locale.
    data: bytes = ElementTree.tostring(root, encoding="us-ascii", xml_declaration=True)
    return f"{data.decode()}\n"


def _suite(file: str, found: Sequence[Diagnostic], fail_level: Severity) -> ElementTree.Element:
    failed = [fail_level in ("warning", each.severity) for each in found]
    suite = ElementTree.Element(
        "testsuite",
        name=safe(file),
        tests=str(len(found) or 1),
        failures=str(sum(failed)),
        errors="0",
    )
    if not found:
        ElementTree.SubElement(suite, "testcase", classname=safe(file), name="no findings")
    for each, fails in zip(found, failed, strict=True):
        place = f"{each.span.line}:{each.span.column} " if each.span.line else ""
        case = ElementTree.SubElement(
            suite, "testcase", classname=safe(file), name=f"{place}{each.code}"
        )
        if fails:
            attributes = {"type": each.severity, "message": safe(each.message)}
            ElementTree.SubElement(case, "failure", attributes).text = _detail(each)
        else:
            ElementTree.SubElement(case, "system-out").text = _detail(each)
    return suite


def _detail(found: Diagnostic) -> str:
    source = "" if found.source_line is None else f"\n| {safe(found.source_line)}"
    place = safe(str(found.span))
    return f"{place}: {found.severity}[{found.code}]: {explained(found)}{source}"
