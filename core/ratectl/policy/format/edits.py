"""Edits of a document's text at the places of its nodes: spelling, short forms, field order."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import yaml

from ratectl.policy.language.rates import Rate
from ratectl.policy.language.shapes import Shape, document_shape

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["WIDTH", "arranged", "edited"]

WIDTH: Final = 100
"""Columns that a mapping in braces may reach."""

_RATE: Final = re.compile(r"(?P<number>[0-9_.]+) */ *(?:1(?![0-9]) *)?(?P<multiple>[0-9]*)")
_COMMENT: Final = re.compile(r"(?:^|\s)#")
_FOR_RATECTL: Final = re.compile(r"[^\n]*#\s*ratectl", re.IGNORECASE)
_ANCHORS: Final = (yaml.AnchorToken, yaml.AliasToken)


def edited(text: str) -> str:
    """Return a document with rates and ``per`` in their short form.

    Mappings and lists in braces and brackets are spaced, ordered and put on one line.
    """
    root = _compose(text)
    if root is None:
        return text
    for start, end, new in sorted(_edits(root, document_shape(root), text), reverse=True):
        text = text[:start] + new + text[end:]
    return text


def arranged(text: str) -> str:
    """Return a document with the fields of block mappings, and their comments, in model order."""
    root = _compose(text)
    if root is None:
        return text
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    _arrange(root, document_shape(root), lines, top=True)
    return "".join(lines)


def _compose(text: str) -> Any:
    """Return the document's node; None if it has anchors, because their order matters."""
    if any(isinstance(token, _ANCHORS) for token in yaml.scan(text, Loader=yaml.SafeLoader)):
        return None
    return yaml.compose(text, Loader=yaml.SafeLoader)


def _edits(node: Any, shape: Shape, text: str) -> Iterator[tuple[int, int, str]]:
    """Yield replacements (start, end, text) of flow collections and of scalars outside them."""
    start, end = node.start_mark.index, node.end_mark.index
    if isinstance(node, yaml.ScalarNode):
        new = _scalar(node, shape, text)
        if new != text[start:end]:
            yield start, end, new
    elif node.flow_style:
        if "\n" not in text[start:end] or not _COMMENT.search(text[start:end]):
            new = _fitted(node, shape, text)
            if new != text[start:end]:
                yield start, end, new
    elif isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            yield from _edits(value, shape.field(name.value), text)
    elif shape.short_list and len(node.value) == 1:
        before, item_end = len(text[:start].rstrip()), node.value[0].end_mark.index
        if text[before - 1] == ":" and "#" not in text[before:item_end]:
            yield before, item_end, f" {_flow(node.value[0], shape.item, text)}"
    else:
        for value in node.value:
            yield from _edits(value, shape.item, text)


def _scalar(node: Any, shape: Shape, text: str) -> str:
    source: str = text[node.start_mark.index : node.end_mark.index]
    if not shape.is_rate or node.style in ("|", ">"):
        return source
    return _rate(node.value) or source


def _rate(written: str) -> str | None:
    """Return a rate without spaces: its number as written, its unit as ratectl writes it."""
    match = _RATE.match(written.strip())
    try:
        rate = Rate.parse(written)
    except ValueError:
        return None
    if match is None:
        return written.strip()
    return f"{match['number']}/{match['multiple']}{rate.unit}"


def _fitted(node: Any, shape: Shape, text: str) -> str:
    """Return a flow collection on one line, or a mapping that is too wide with a line per field."""
    line = _flow(node, shape, text)
    column = node.start_mark.column
    if column + len(line) <= WIDTH or not isinstance(node, yaml.MappingNode):
        return line
    if _FOR_RATECTL.match(text, node.end_mark.index):  # on several lines it would be for the last
        return line
    start = text.rfind("\n", 0, node.start_mark.index) + 1
    before = text[start : node.start_mark.index]
    if not re.fullmatch(r" *[^\s:#'\"-][^:#'\"]*: *", before):
        return line
    indent = " " * (len(before) - len(before.lstrip()) + 2)
    items = [f"{indent}{field}" for field in _fields(node, shape, text)]
    return "\n" + "\n".join(items)


def _flow(node: Any, shape: Shape, text: str) -> str:
    if isinstance(node, yaml.MappingNode):
        return "{" + ", ".join(_fields(node, shape, text)) + "}"
    if isinstance(node, yaml.SequenceNode):
        items = [_flow(item, shape.item, text) for item in node.value]
        short = shape.short_list and len(items) == 1
        return items[0] if short else f"[{', '.join(items)}]"
    return _scalar(node, shape, text)


def _fields(node: Any, shape: Shape, text: str) -> list[str]:
    """Return the fields of a flow mapping, in canonical order."""
    order = shape.order([name.value for name, _ in node.value])
    fields = []
    for at in order:
        name, value = node.value[at]
        shown = _flow(value, shape.field(name.value), text)
        fields.append(f"{_scalar(name, Shape(), text)}: {shown}")
    return fields


def _arrange(node: Any, shape: Shape, lines: list[str], *, top: bool = False) -> None:
    """Reorder the lines of block mappings in place, the innermost first.

    Comments above the first field of a document are its heading and stay there.
    """
    if node.flow_style or isinstance(node, yaml.ScalarNode):
        return
    if isinstance(node, yaml.SequenceNode):
        for value in node.value:
            if not isinstance(value, yaml.ScalarNode):
                _arrange(value, shape.item, lines)
        return
    for name, value in node.value:
        if not isinstance(value, yaml.ScalarNode):
            _arrange(value, shape.field(name.value), lines)
    order = shape.order([name.value for name, _ in node.value])
    if order == sorted(order):
        return
    chunks, first = _chunks(node, lines, top=top)
    column = node.value[0][0].start_mark.column
    if lines[first][:column].strip(" ").startswith("-"):
        # The mapping is an item of a list: its dash stays on the first line.
        chunks[0] = [" " * column + chunks[0][0][column:], *chunks[0][1:]]
        moved = chunks[order[0]][0]
        if moved[:column].strip() or moved.lstrip().startswith(("#", "\n")) or not moved.strip():
            return
        dash = lines[first][:column]
        chunks[order[0]] = [dash + moved[column:], *chunks[order[0]][1:]]
    lines[first : first + sum(map(len, chunks))] = [line for at in order for line in chunks[at]]


def _chunks(node: Any, lines: list[str], *, top: bool) -> tuple[list[list[str]], int]:
    """Return the lines of each field with the comments above it, and the number of the first."""
    starts = [name.start_mark.line for name, _ in node.value]
    column = node.value[0][0].start_mark.column
    ends = [_end(value) for _, value in node.value]
    first = starts[0]
    while not top and first and lines[first - 1].lstrip().startswith("#"):
        first -= 1
    cuts = [first]
    for end, start in zip(ends, starts[1:], strict=False):
        cut = end + 1
        while cut < start and _belongs_above(lines[cut], column):
            cut += 1
        cuts.append(cut)
    last = ends[-1] + 1
    return [lines[a:b] for a, b in zip(cuts, [*cuts[1:], last], strict=True)], first


def _belongs_above(line: str, column: int) -> bool:
    """Return True for a comment indented deeper than the fields: it is about the field above."""
    stripped = line.lstrip(" ")
    return stripped.startswith("#") and len(line) - len(stripped) > column


def _end(node: Any) -> int:
    """Return the number of the last line of a node."""
    if isinstance(node, yaml.ScalarNode) or node.flow_style or not node.value:
        mark = node.end_mark
        return int(mark.line - (mark.column == 0 and mark.line > node.start_mark.line))
    last = node.value[-1]
    return _end(last[1] if isinstance(node, yaml.MappingNode) else last)
