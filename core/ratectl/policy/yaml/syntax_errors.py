"""Findings from errors of the YAML parser: plain messages about malformed text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ratectl.diagnostics import Diagnostic, Span
from ratectl.policy import codes
from ratectl.policy.yaml.slips import NO_SPACE_AFTER_COLON, Slip, colon_missing, value_missing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["explain_syntax"]

_FIELD_WITHOUT_SPACE = re.compile(rf"[\s{{-]*{NO_SPACE_AFTER_COLON.pattern}")
_LEADING_TAB = re.compile(r" *\t")
_KEY_AT_END = re.compile(r"(?P<key>[A-Za-z_][\w.-]*)\s*$")
_VALUE_AND_KEY = re.compile(r"[^\s,{\[:]\s+(?P<key>[A-Za-z_][\w.-]*)$")
_NOT_A_SEPARATOR = re.compile(r"(?:--|----+|==+|\*\*+)\s*")
_BEYOND_UNICODE = re.compile(r"\\U(?!0010|000)[0-9A-Fa-f]{8}")
_TEXT_FIELD = re.compile(
    r"\s*(?P<key>description|owner|reason|name): +(?P<text>[^\s'](?:.*\S)?)\s*"
)
_UNSAFE = re.compile(r"[\"\\]|\s#|.{81}")  # not repeated in quotes: special, or long
_CLOSING = {"{": "}", "[": "]"}


@dataclass(frozen=True, slots=True)
class _Failure:
    """Error of the parser. Lines and columns count from 0; -1 if the parser gave no place."""

    words: str
    line: int
    column: int
    start_line: int
    start_column: int
    lines: Sequence[str]

    def text(self, line: int) -> str:
        return self.lines[line] if 0 <= line < len(self.lines) else ""

    @property
    def before(self) -> str:
        return self.text(self.line)[: self.column]

    @property
    def character(self) -> str:
        """The character at the failure; empty at the end of a line."""
        return self.text(self.line)[self.column : self.column + 1]

    @property
    def line_above(self) -> int:
        """Number of the nearest line above that is not blank."""
        line = self.line - 1
        while line > 0 and not self.lines[line].strip():
            line -= 1
        return line


@dataclass(frozen=True, slots=True)
class _Finding:
    message: str
    hint: str
    line: int = -1  # -1: where the parser failed
    column: int = 0
    width: int = 1
    note_failure: bool = False
    code: str = codes.SYNTAX


def explain_syntax(error: Exception, lines: Sequence[str], file: str) -> Diagnostic:
    """Return the finding for an exception of the parser."""
    failure = _failure(error, lines)
    finding = _explain(failure)
    line, column = finding.line, finding.column
    if line < 0:
        line, column = failure.line, failure.column
    # The parser may fail one line after the last.
    line = min(line, len(lines) - 1)
    column = min(column, len(failure.text(line)))
    span = Span(file, line + 1, column + 1, column + 1 + finding.width)
    notes: tuple[str, ...] = ()
    if finding.note_failure:
        notes = (f"reading stopped at {file}:{failure.line + 1}:{failure.column + 1}",)
    return Diagnostic(finding.code, finding.message, span, hint=finding.hint, notes=notes)


def _failure(error: Exception, lines: Sequence[str]) -> _Failure:
    start: Any = getattr(error, "context_mark", None)
    mark: Any = getattr(error, "problem_mark", None) or start
    text = f"{getattr(error, 'context', None) or ''}: {getattr(error, 'problem', None) or error}"
    line, column = (mark.line, mark.column) if mark else _beyond_unicode(lines)
    return _Failure(
        text,
        line,
        column,
        start.line if start else -1,
        start.column if start else -1,
        lines,
    )


def _beyond_unicode(lines: Sequence[str]) -> tuple[int, int]:
    """Return the place of the first invalid escape: the pure-Python scanner does not give it."""
    for number, line in enumerate(lines):
        if match := _BEYOND_UNICODE.search(line):
            return number, match.start()
    return 0, 0


def _explain(failure: _Failure) -> _Finding:
    tab = _LEADING_TAB.match(failure.text(failure.line))
    if "tab character" in failure.words or (tab and "any token" in failure.words):
        column = tab.end() - 1 if tab else failure.column
        return _Finding("a tab is used for indentation", "use spaces", failure.line, column)
    for phrases, explain in _EXPLANATIONS:
        if any(phrase in failure.words for phrase in phrases):
            return explain(failure)
    return _Finding("this is not well-formed YAML", "see the line above, or quote the text")


def _directive(failure: _Failure) -> _Finding:
    line = failure.line
    return _Finding(
        "directives are not allowed",
        "delete the line",
        line,
        0,
        max(1, len(failure.text(line))),
        code=codes.DIRECTIVE,
    )


def _tag(failure: _Failure) -> _Finding:
    line, column = failure.start_line, failure.start_column
    message, hint = "tags are not allowed", "delete it; quote the value if it is text"
    return _Finding(message, hint, line, column, code=codes.TAG)


def _missing_space(failure: _Failure, line: int) -> _Finding | None:
    match = _FIELD_WITHOUT_SPACE.match(failure.text(line))
    if match is None:
        return None
    key = match["key"]
    message = f"no space after the colon of {key[:60]!r}"
    return _Finding(
        message, f"write '{key[:60]}: …'", line, match.start("key"), min(len(key), 60) + 1
    )


def _second_colon(failure: _Failure) -> _Finding:
    missing = (
        _missing_space(failure, failure.line)
        or _missing_space(failure, failure.line_above)
        or _missing_colon(failure)
    )
    if missing:
        return missing
    if re.search(r":\s", failure.before):
        hint = _with_quotes(failure.text(failure.line))
        hint = hint or "quote the text, or start a new line for the key"
        return _Finding("this line has a second colon", hint)
    above = failure.line_above
    if above >= 0 and ":" not in failure.text(above):
        message, hint = "this line is not 'key: value'", "write a colon and a space after the key"
        return _Finding(message, hint, above, 0, max(1, len(failure.text(above))))
    indent = len(failure.before) - len(failure.before.lstrip())
    return _Finding(
        "this field is indented below a field that already has a value",
        "align it with the field above",
        failure.line,
        indent,
        max(1, failure.column - indent),
    )


def _with_quotes(line: str) -> str | None:
    """Return how to write a field of text that holds a colon; None for other lines."""
    field = _TEXT_FIELD.fullmatch(line)
    if field is None or _UNSAFE.search(field["text"]) or not line.isprintable():
        return None
    return f'write {field["key"]}: "{field["text"]}"'


def _missing_colon(failure: _Failure) -> _Finding | None:
    """Return the finding for ``spike {rate: 10/s, …}``."""
    text = failure.text(failure.line)
    content = text.lstrip(" -")
    slip = colon_missing(content, flow=False)
    if slip is None:
        return None
    return _at_key(slip, failure.line, len(text) - len(content), content)


def _at_key(slip: Slip, line: int, column: int, text: str) -> _Finding:
    match = re.match(r"[\w.-]*", text)
    return _Finding(*slip, line, column, max(1, len(match[0]) if match else 1))


def _no_colon(failure: _Failure) -> _Finding:
    line, column = failure.start_line, failure.start_column
    if _NOT_A_SEPARATOR.fullmatch(failure.text(line)):
        shown = failure.text(line).strip()
        message, hint = f"{shown[:20]!r} separates no documents", "write three dashes: ---"
        return _Finding(message, hint, line, 0, max(1, len(shown)))
    return _missing_space(failure, line) or _Finding(
        "this line is not 'key: value'",
        "write a colon and a space after the key, or quote the text",
        line,
        column,
        max(1, len(failure.text(line).rstrip()) - column),
    )


def _flow(failure: _Failure) -> _Finding:
    line, column = failure.start_line, failure.start_column
    opening = failure.text(line)[column : column + 1]
    closing = _CLOSING.get(opening, "}")
    if line != failure.line and failure.character not in ("]", "}"):
        return _Finding(
            f"the {opening!r} is not closed, or a comma is missing in it",
            f"write {closing!r} where it ends",
            line,
            column,
            note_failure=True,
        )
    return _slip_in_flow(failure) or _Finding(
        f"a comma or {closing!r} is missing before this", "write it, or quote the text"
    )


def _slip_in_flow(failure: _Failure) -> _Finding | None:
    """Return the finding for ``{per [tenant]}`` and for ``{rate: 10/s burst: 20}``."""
    before = _KEY_AT_END.search(failure.before)
    if before is not None and failure.character in ("{", "["):
        slip = colon_missing(f"{before['key']} {failure.character}", flow=True)
        return slip and _at_key(slip, failure.line, before.start("key"), before["key"])
    before = _VALUE_AND_KEY.search(failure.before)
    if before is not None and failure.character == ":":
        key = before["key"][:60]
        slip = Slip(f"no comma before {key!r}", f"write ', {key}: …'")
        return _at_key(slip, failure.line, before.start("key"), key)
    return None


def _colon_in_flow(failure: _Failure) -> _Finding:
    """Return the finding for ``{per:}`` and ``{per:[tenant]}``, which only some parsers accept."""
    before = _KEY_AT_END.search(failure.before)
    if before is None:
        return _Finding("the key is missing", "write a name before the colon")
    key, after = before["key"][:60], failure.text(failure.line)[failure.column + 1 :][:1]
    code = codes.SYNTAX
    slip = Slip(f"no space after the colon of {key!r}", f"write '{key}: {after}…'")
    if after not in ("[", "{"):
        code = codes.NULL
        slip = value_missing(key)
    column = before.start("key")
    return _Finding(*slip, failure.line, column, len(key), code=code)


def _quote(failure: _Failure) -> _Finding:
    line, column = failure.start_line, failure.start_column
    quote = failure.text(line)[column : column + 1]
    return _Finding(
        f"the quote {quote} is not closed",
        f"write a second {quote} at the end of the text",
        line,
        column,
    )


def _escape(failure: _Failure) -> _Finding:
    # One parser points at the backslash, the other at what follows it.
    column = max(failure.text(failure.line).rfind("\\", 0, failure.column + 1), 0)
    return _Finding(
        "this escape is not a character",
        r"write the character itself, '\\' for a backslash, or use single quotes",
        failure.line,
        column,
        2,
    )


def _start(failure: _Failure) -> _Finding:
    return _Finding(f"unquoted text cannot start with {failure.character!r}", "quote it")


def _anchor(failure: _Failure) -> _Finding:
    line, column = failure.start_line, failure.start_column
    sign = failure.text(line)[column : column + 1]
    what = "an alias" if sign == "*" else "an anchor"
    after = failure.text(line)[column + 1 : column + 2]
    hint = f'write "{sign}" in quotes' if after in ("", " ", ",", "}", "]") else "quote the text"
    return _Finding(f"{sign!r} without quotes starts {what} of YAML", hint, line, column)


def _misplaced(failure: _Failure) -> _Finding:
    if failure.character in ("]", "}"):
        return _Finding(f"the {failure.character!r} closes nothing", "delete it, or quote the text")
    if failure.character == ":":
        return _Finding("the key is missing", "write a name before the colon")
    if failure.before.strip():
        return _Finding("more text follows a finished value", "quote the whole value")
    return _Finding(
        "the indentation fits no line above",
        "indent it like the other fields of the same limit or document",
    )


def _list_item(_failure: _Failure) -> _Finding:
    return _Finding(
        "a list item is expected here", "start it with '- ', or correct the indentation"
    )


def _content(failure: _Failure) -> _Finding:
    if failure.character in ("]", "}") and failure.words.startswith("while parsing a block"):
        return _misplaced(failure)
    if failure.character == ":":
        return _Finding("the key is missing", "write a name before the colon")
    return _Finding("a value is missing before this", "write it, or delete the comma")


def _after_document(failure: _Failure) -> _Finding:
    if failure.character in ("]", "}"):
        return _misplaced(failure)
    return _Finding(
        "this line is outside the document above",
        "align it with the first field, or start a new document with ---",
    )


def _block_text(failure: _Failure) -> _Finding:
    return _Finding(
        "the start of this block of text is not readable",
        "write '|' or '>' alone and the text below it, indented",
        failure.start_line,
        failure.start_column,
    )


# Words of libyaml and of the pure-Python parser; the first row that matches is used.
_EXPLANATIONS: Final[tuple[tuple[tuple[str, ...], Callable[[_Failure], _Finding]], ...]] = (
    (("directive", "incompatible YAML"), _directive),
    (("a tag", "tag handle"), _tag),
    (("mapping values are not allowed",), _second_colon),
    (("could not find expected ':'",), _no_colon),
    (("unexpected ':'",), _colon_in_flow),
    (("flow mapping: ", "flow sequence: "), _flow),
    (("escape", "chr()", "too large to convert"), _escape),
    (("quoted scalar",), _quote),
    (("any token",), _start),
    (("an alias", "an anchor"), _anchor),
    (("block scalar",), _block_text),
    (("node content",), _content),
    (("block mapping",), _misplaced),
    (("block collection",), _list_item),
    (("document start",), _after_document),
)
