"""Origins: the file, line and column of the values in force, for explanations.

A directory's policies bring the places of their values along. A store keeps them in a blob of its
own, which agents do not need to enforce the policies: the reporting thread reads it when the first
explanation has asked for a place, and after that for each generation. It is kept compressed.
"""

from __future__ import annotations

import json
import zlib
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from ratectl.agent.log import log
from ratectl.errors import BundleError, RatectlError
from ratectl.history.generations import read_blob, read_entry
from ratectl.policy.language.model import SourceMap, exception_key
from ratectl.policy.resolution.conditions import override_ref
from ratectl.runtime.clock import monotonic
from ratectl.runtime.cooperative import paced

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.diagnostics import Span
    from ratectl.policy.language.model import PolicyTree
    from ratectl.stores.base import Store

__all__ = ["Origins"]

_RETRY_SECONDS: Final = 60.0
_REMEMBERED: Final = 64
"""Most documents whose places are kept decoded."""


class Origins:
    """Places of the values of one generation. Safe across threads."""

    def __init__(self) -> None:
        self.folder = ""
        """Folder of the policies, or their only file: files are named as seen from there."""
        self._current = _Places(0)
        self._wanted = False
        self._retry_at = 0.0

    def begin(self, tree: PolicyTree, generation: int) -> Mapping[str, SourceMap]:
        """Take the places of a new generation. Return those of the one before, to be released."""
        before, self._current = self._current, _Places.of(tree, generation)
        self._retry_at = 0.0
        return before.documents

    def place(self, source: str, path: str) -> str | None:
        """Return ``payments/team.yaml:8:17``; None if the place is not known, or not yet.

        ``source``: the scope, override or exception that sets a value. ``path``: the value there.
        """
        current = self._current
        if not current.known:
            self._wanted = True
            return None
        try:
            span = current.span(source, path)
        except (BundleError, ValueError, zlib.error) as error:  # what a store holds is untrusted
            log.debug("origins", exc_info=error)
            return None
        if span is None:
            return None
        return f"{_seen_from(self.folder, span.file)}:{span.line}:{span.column}"

    def read_if_wanted(self, store: Store | None) -> None:
        """Read the places from a store, if an explanation has asked for one. Never raises."""
        current = self._current
        if store is None or not self._wanted or current.known or not current.generation:
            return
        if monotonic() < self._retry_at:
            return
        self._retry_at = monotonic() + _RETRY_SECONDS
        try:
            address = read_entry(store, current.generation).origins
            current.learn(b"" if address is None else read_blob(store, address))
        except RatectlError as error:
            log.debug("reading origins: %s", error)


class _Places:
    """Places of one generation."""

    def __init__(self, generation: int) -> None:
        self.generation = generation
        self.documents: dict[str, SourceMap] = {}
        """Places by document: of all of a directory, or the last ones that were decoded."""
        self._prefixes: dict[str, list[tuple[str, str]]] = defaultdict(list)
        """Document and path of each override and exception, by its name. Two exceptions for all
        requests may have the same name."""
        self._packed: bytes | None = None
        self._whole = False

    @classmethod
    def of(cls, tree: PolicyTree, generation: int) -> _Places:
        places = cls(generation)
        places.documents, places._whole = dict(tree.sources), bool(tree.sources)
        for policy in paced(tree.policies.values()):
            for position, override in enumerate(policy.overrides):
                ref = override_ref(policy.scope, override.name)
                places._prefixes[ref].append((policy.scope, f"overrides.{position}."))
        for position, exception in enumerate(tree.exceptions):
            for ref in (exception.ref, f"{exception.ref} #{position}"):
                places._prefixes[ref].append((exception_key(position), ""))
        return places

    @property
    def known(self) -> bool:
        """False until the places were read."""
        return self._whole or self._packed is not None

    def learn(self, origins: bytes) -> None:
        """Take the bytes of origins (see ``encode_origins``); none if they are not stored."""
        self._packed = zlib.compress(origins, 1)

    def span(self, source: str, path: str) -> Span | None:
        """:raises BundleError, ValueError: the bytes of origins are not readable."""
        for document, prefix in self._prefixes.get(source, [(source, "")]):
            known = self._document(document)
            if known is not None and f"{prefix}{path}" in known.at:
                return known.span(f"{prefix}{path}")
        return None

    def _document(self, document: str) -> SourceMap | None:
        known = self.documents.get(document)
        if known is None and self._packed is not None:
            known = _found(zlib.decompress(self._packed).decode(), document)
            if known is not None:
                if len(self.documents) >= _REMEMBERED:
                    self.documents = {}
                self.documents[document] = known
        return known


def _seen_from(folder: str, file: str) -> str:
    if not folder:
        return file
    return file.rpartition("/")[2] if file == folder else file.removeprefix(f"{folder}/")


def _found(origins: str, document: str) -> SourceMap | None:
    """Return the places of one document. The others are not parsed: there may be thousands.

    The bytes are canonical JSON, so the name is found as it is written, and nowhere else.

    :raises BundleError, ValueError: the bytes are not readable.
    """
    name = json.dumps(document, ensure_ascii=False) + ':{"at":'
    start = origins.find(name)
    if start < 0:
        return None
    value: Any
    try:
        value, _ = json.JSONDecoder().raw_decode(origins, start + len(name) - len('{"at":'))
        at = {path: (int(a), int(b), int(c)) for path, (a, b, c) in value["at"].items()}
        return SourceMap(str(value["file"]), at)
    except (KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise BundleError(f"origins are not readable: {error}") from None
