"""Reader of strict YAML: turns text into values with places, and reports every problem.

It accepts only forms on which all YAML readers agree. It uses the events of the parser, not its
objects: no tag is resolved, nothing recurses, and each bound is checked before memory is used.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import yaml

from ratectl.diagnostics import Diagnostic, Severity, Span
from ratectl.policy import codes
from ratectl.policy.yaml import slips
from ratectl.policy.yaml.events import Frame, Malformed, events
from ratectl.policy.yaml.keys import key_problem
from ratectl.policy.yaml.nodes import (
    BROKEN,
    MAX_ALIASED_NODES,
    MAX_DEPTH,
    MAX_DOCUMENT_NODES,
    MAX_FILE_NODES,
    AliasNode,
    Broken,
    Document,
    Node,
    Place,
    Reading,
    detach_kind,
    expanded,
    new_mapping,
)
from ratectl.policy.yaml.scalars import Surprise, in_field, read_plain
from ratectl.policy.yaml.syntax_errors import explain_syntax
from ratectl.policy.yaml.text import (
    FORBIDDEN,
    MAX_PROBLEMS,
    decode,
    named,
    quoted,
    shown,
    too_many,
)

__all__ = ["read"]

_DOCUMENT_COST: Final = 10  # a document takes the time and memory of this many values


def read(data: bytes, file: str) -> Reading:
    """Read all documents of a file; no content of the file raises an error."""
    text, lines, refused = decode(data, file)
    if refused:
        return Reading((), refused, lines, complete=False)
    reader = _Reader(file, lines)
    reader.run(text)
    return Reading(tuple(reader.documents), tuple(reader.findings), lines, reader.complete)


class _Stop(Exception):
    """Raised to stop reading a file; the reason has been reported."""


class _Reader:
    """Reader of one file: turns events into documents."""

    def __init__(self, file: str, lines: tuple[str, ...]) -> None:
        self.file = file
        self.lines = lines
        self.documents: list[Document] = []
        self.findings: list[Diagnostic] = []
        self.complete = False
        self._file_nodes = self._nodes = 0
        self._start_document()
        self._nodes = 0

    def run(self, text: str) -> None:
        handlers = {
            yaml.ScalarEvent: self._scalar,
            yaml.MappingStartEvent: self._start_mapping,
            yaml.SequenceStartEvent: self._start_sequence,
            yaml.MappingEndEvent: self._end_collection,
            yaml.SequenceEndEvent: self._end_collection,
            yaml.AliasEvent: self._alias,
            yaml.DocumentStartEvent: self._document,
            yaml.DocumentEndEvent: self._end_document,
        }
        try:
            for event in events(text):
                handler = handlers.get(type(event))
                if handler is not None:
                    handler(event)
        except _Stop:
            self._abandon_document()
        except Malformed as malformed:
            self._malformed(malformed.error)
            self._abandon_document()
        else:
            self.complete = True
            if not self.documents and not self.findings:
                message, hint = "the file holds no document", "write a policy or delete the file"
                self._report(codes.EMPTY_FILE, (0, 0, 0), message, hint, severity="warning")

    def _malformed(self, error: Exception) -> None:
        mark = getattr(error, "problem_mark", None)
        if mark is not None and "nesting depth" in str(getattr(error, "problem", "")):
            # Newer parsers have their own bound, and may reach it first.
            self._too_deep((mark.line + 1, mark.column + 1, mark.column + 2))
        else:
            finding = explain_syntax(error, self.lines, self.file)
            if self.findings and self.findings[-1].span.begin == finding.span.begin:
                self.findings.pop()  # it is a consequence
            self.findings.append(finding)

    # Documents

    def _start_document(self) -> None:
        self._stack: list[Frame] = []
        self._anchors: dict[str, Node] = {}
        self._root: Node | None = None
        self._file_nodes += self._nodes
        self._nodes = _DOCUMENT_COST
        self._aliased = 0
        self._findings_before = len(self.findings)

    def _document(self, event: Any) -> None:
        self._start_document()
        if event.version or event.tags:
            line = event.start_mark.line + 1
            place = (line, 1, len(self.lines[line - 1]) + 1)
            self._report(codes.DIRECTIVE, place, "directives are not allowed", "delete the line")

    def _end_document(self, _event: Any) -> None:
        if self._root is not None:
            ok = len(self.findings) == self._findings_before
            self.documents.append(Document(self._root, ok))
            self._root = None

    def _abandon_document(self) -> None:
        """Keep the part of an unfinished document that was read: it may have the scope."""
        line = self.findings[-1].span.line
        if self._root is not None:
            self.documents.append(Document(self._root, ok=False, unread_from=line))
        elif self.documents:  # the rest may belong to it
            self.documents[-1] = replace(self.documents[-1], ok=False, unread_from=line)

    # Values

    def _scalar(self, event: Any) -> None:
        self._count(event)
        frame = self._stack[-1] if self._stack else None
        if frame is not None and frame.on_key:
            self._key(event, frame)
            return
        place = self._place(event)
        text: str = event.value
        value: Any = text
        if event.tag is not None:
            value = self._refuse_tag(event, place)
        elif not event.style:  # unquoted
            if not text and frame is None:
                return  # no text between two document markers
            value = self._plain(text, frame, place)
        elif event.style == '"' and (match := FORBIDDEN.search(text)):
            message = f"the character {named(match[0])} is not allowed"
            value = self._report(codes.CHARACTER, place, message, "delete it")
        node = Node(value, place)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        self._attach(node)

    def _plain(self, text: str, frame: Frame | None, place: Place) -> Any:
        value = read_plain(text)
        if not isinstance(value, Surprise):
            return value
        key = frame.key if frame is not None and frame.is_map else None
        value = in_field(key, text, value)
        if not isinstance(value, Surprise):
            return value
        if not text and key is not None and frame is not None:
            return self._no_value(key, frame, value)
        if not text and frame is not None and not frame.is_map:
            return self._report(value.code, place, "the list item is empty", value.hint)
        hint = self._unset_hint(key) if value.code == codes.NULL else None
        return self._report(value.code, place, value.message, hint or value.hint)

    def _unset_hint(self, key: str | None) -> str | None:
        """Return how to stop inheriting the limit that the open key names; None for other keys."""
        if key is None or len(self._stack) < 2 or self._stack[-2].key != "limits":
            return None
        name = shown(key)
        return f"write the fields of {name}; to inherit no {name}, write unset: [{name}] instead"

    def _no_value(self, key: str, frame: Frame, value: Surprise) -> Broken:
        keys: Any = frame.node.keys
        place = keys[key]
        slip = slips.colon_missing(key, flow=frame.flow)
        if slip is not None:
            frame.key = None
            del keys[key]
            return self._report(codes.SYNTAX, place, *slip)
        message, hint = slips.no_value(key, self.lines, *place[:2], flow=frame.flow)
        return self._report(value.code, place, message, self._unset_hint(key) or hint)

    def _alias(self, event: Any) -> None:
        self._count(event)
        place = self._place(event)
        if self._stack and self._stack[-1].on_key:
            self._bad_key(self._stack[-1], place, "an alias as a key is not allowed")
            return
        last = self.findings[-1] if self.findings else None
        node = self._aliased_node(event.anchor, place)
        if last is not None and last.code == codes.MERGE_KEY and self._stack[-1].key is None:
            at = self.findings.index(last)
            self.findings[at] = replace(last, hint=slips.copied(node.value) or last.hint)
        self._attach(node)

    def _aliased_node(self, name: str, place: Place) -> Node:
        broken = Node(BROKEN, place)
        target = self._anchors.get(name)
        if target is None:
            message = f"no anchor &{name} before this alias"
            self._report(codes.ALIAS, place, message, "quote it if you mean the text")
            return broken
        if any(frame.node is target for frame in self._stack):
            message = f"the alias *{name} is inside its own anchor"
            self._report(codes.ALIAS, place, message, "write the value out")
            return broken
        if self._aliased > MAX_ALIASED_NODES:
            return broken  # reported once for each document
        size, depth = expanded(target, MAX_ALIASED_NODES - self._aliased)
        self._aliased += size
        if self._aliased > MAX_ALIASED_NODES:
            message = f"aliases repeat more than {MAX_ALIASED_NODES} values in this document"
            self._report(codes.ALIAS_SIZE, place, message, "use fewer aliases: inherit the limits")
            return broken
        if depth + len(self._stack) > MAX_DEPTH:
            self._too_deep(place)
            return broken
        return AliasNode(target, place)

    # Collections

    def _start_mapping(self, event: Any) -> None:
        self._start_collection(event, new_mapping(), is_map=True)

    def _start_sequence(self, event: Any) -> None:
        node = Node([], (0, 0, 0))
        node.children = {}
        self._start_collection(event, node, is_map=False)

    def _start_collection(self, event: Any, node: Node, *, is_map: bool) -> None:
        self._count(event)
        place = self._place(event)
        if not event.flow_style:
            place = (*place[:2], place[1] + 1)
        node.place = place
        if event.tag is not None:
            self._refuse_tag(event, place)
        if len(self._stack) >= MAX_DEPTH:
            self._too_deep(place)
            raise _Stop
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        if self._stack and self._stack[-1].on_key:
            self._bad_key(self._stack[-1], place, "a list or mapping as a key is not allowed")
        else:
            self._attach(node)
        self._stack.append(Frame(node, is_map=is_map, flow=bool(event.flow_style)))

    def _end_collection(self, event: Any) -> None:
        frame = self._stack.pop()
        node = frame.node
        if frame.flow and not node.keys:
            line, column, _ = node.place
            end = event.end_mark
            last = end.column if end.line + 1 == line else len(self.lines[line - 1])
            node.place = (line, column, last + 1)
        if frame.refused and not node.keys and self._stack:
            self._stack[-1].refuse_last(node)  # errors in it would be consequences

    def _attach(self, node: Node) -> None:
        """Add a value to the open collection, or as the root."""
        if self._stack:
            self._stack[-1].add(node)
        else:
            self._root = node

    # Keys

    def _key(self, event: Any, frame: Frame) -> None:
        place = self._place(event)
        text: str = event.value
        if text in frame.node.keys and len(self._stack) == 1:
            self._separate(text, place, frame)
        node = frame.node
        if not node.keys:
            node.place = place
        frame.on_key = False
        frame.key = None
        if event.tag is not None:
            self._refuse_tag(event, place)
        elif text in node.keys:
            first = Span(self.file, *node.keys[text])
            message = f"the key {quoted(text)} is written twice"
            note = f"first written at {first}"
            self._report(codes.DUPLICATE_KEY, place, message, "delete or rename one", note)
        elif problem := key_problem(text, plain=not event.style):
            frame.refused = True
            self._report(problem.code, place, problem.message, problem.hint)
        else:
            frame.key = text
            keys: Any = node.keys
            keys[text] = place
        if event.anchor is not None:
            self._anchors[event.anchor] = Node(text, place)

    def _separate(self, text: str, place: Place, frame: Frame) -> None:
        """Begin the next document here, if the line of dashes above it is missing."""
        if not slips.document_begins(text, frame.node.keys):
            return
        kind = detach_kind(frame.node, place[0] - 1)
        place = kind[0] if kind else place
        versioned = slips.has_version(text, self.lines[place[0] - 1 :][:2])
        slip = slips.separator_missing(versioned=versioned)
        self._report(codes.SEPARATOR, place, *slip)
        self._end_document(None)
        self._start_document()
        frame.node = self._root = new_mapping()
        if not versioned:
            frame.node.value["apiVersion"] = BROKEN  # its absence is reported
        self._stack = [frame]
        if kind is not None:
            frame.key = "kind"
            keys: Any = frame.node.keys
            keys[frame.key] = place
            self._attach(kind[1])

    def _bad_key(self, frame: Frame, place: Place, message: str) -> None:
        self._report(codes.KEY, place, message, "write the key as text")
        frame.key = None
        frame.on_key = False
        frame.refused = True

    # Bounds and findings

    def _count(self, event: Any) -> None:
        self._nodes += 1
        if self._nodes <= MAX_DOCUMENT_NODES and self._file_nodes + self._nodes <= MAX_FILE_NODES:
            return
        what, bound = "document", MAX_DOCUMENT_NODES
        if self._nodes <= bound:
            what, bound = "file", MAX_FILE_NODES
        message = f"the {what} holds more than {bound} keys and values"
        self._report(codes.TOO_LARGE, self._place(event), message, f"split the {what}")
        raise _Stop

    def _place(self, event: Any) -> Place:
        start, end = event.start_mark, event.end_mark
        if start.line >= len(self.lines):  # libyaml adds a missing line end
            column = len(self.lines[-1]) + 1
            return (len(self.lines), column, column + 1)
        line, column = start.line + 1, start.column + 1
        last = end.column if end.line == start.line else len(self.lines[start.line])
        return (line, column, max(last, column) + 1)

    def _refuse_tag(self, event: Any, place: Place) -> Broken:
        tag = event.tag.replace("tag:yaml.org,2002:", "!!")
        message = f"the tag {quoted(tag)} is not allowed"
        return self._report(codes.TAG, place, message, "delete it; quote the value if it is text")

    def _too_deep(self, place: Place) -> None:
        message = f"nested more than {MAX_DEPTH} levels deep"
        self._report(codes.TOO_DEEP, place, message, "a policy needs only five levels")

    def _report(
        self,
        code: str,
        place: Place,
        message: str,
        hint: str,
        *notes: str,
        severity: Severity = "error",
    ) -> Broken:
        if len(self.findings) >= MAX_PROBLEMS:
            self.findings.append(too_many(self.file))
            raise _Stop
        span = Span(self.file, *place)
        self.findings.append(Diagnostic(code, message, span, severity, hint, notes))
        return BROKEN
