"""Policies that the program itself gives to its agent: no store, no disk."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ratectl.agent.fake_clock import FakeClock
from ratectl.errors import UsageError

if TYPE_CHECKING:
    from ratectl.policy.language.model import PolicyTree

    Given = str | os.PathLike[str] | Mapping[str, Any] | Sequence[Mapping[str, Any]] | PolicyTree
    """Text in YAML, a path, one document or several, or a tree."""

__all__ = ["Given", "GivenPolicies"]


@dataclass(frozen=True, slots=True)
class GivenPolicies:
    """Policies that a program gives to its agent, and the clock that its test moves."""

    tree: PolicyTree
    clock: FakeClock | None = None
    """None: the system's clock."""

    @classmethod
    def of(cls, policies: Given, clock: FakeClock | None) -> GivenPolicies:
        """Check what the caller gives.

        :raises UsageError: it is neither policies nor a clock.
        :raises PolicyError: the policies are not valid.
        """
        if not isinstance(clock, FakeClock | None):
            raise UsageError(f"clock is a ratectl.FakeClock, or None, not {clock!r}")
        return cls(_tree_of(policies), clock)


def _tree_of(given: Given) -> PolicyTree:
    """Return the policies in a text, at a path, or in documents.

    :raises UsageError: it is none of these, or the path does not exist.
    :raises PolicyError: the policies are not valid.
    """
    from ratectl.policy.language.model import PolicyTree  # an agent of a store reads no YAML
    from ratectl.policy.read import load_valid, load_valid_text

    if isinstance(given, PolicyTree):
        return given
    if isinstance(given, str) and _is_text(given):
        return load_valid_text(given).tree
    if isinstance(given, str | os.PathLike):
        return load_valid([_existing(given)]).tree
    documents = [given] if isinstance(given, Mapping) else given
    if isinstance(documents, list | tuple) and all(isinstance(each, Mapping) for each in documents):
        return load_valid_text(_yaml_of(documents)).tree
    raise UsageError(
        "policies are a text in YAML, a path, a document as a mapping, a list of documents, or "
        f"a tree, not a {type(given).__name__}"
    )


def _is_text(given: str) -> bool:
    """Tell YAML, or JSON in one line, from a path."""
    return "\n" in given or ": " in given or given.lstrip().startswith(("{", "["))


def _existing(path: str | os.PathLike[str]) -> str | os.PathLike[str]:
    try:
        exists = os.path.exists(path)  # noqa: PTH110  any text may be given
    except ValueError:  # a NUL in it
        exists = False
    if not exists:
        raise UsageError(
            f"{os.fspath(path)!r:.200} is no path of policies, and no YAML: that has lines like "
            "'scope: /'"
        )
    return path


def _yaml_of(documents: Sequence[Mapping[str, Any]]) -> str:
    """Return documents as YAML: JSON is YAML.

    :raises UsageError: a value has no form in JSON, such as a date.
    """
    try:
        # YAML does not join surrogate pairs, which JSON's ASCII has for emoji.
        return "\n---\n".join(
            json.dumps(dict(each), allow_nan=False, ensure_ascii=False) for each in documents
        )
    except (TypeError, ValueError) as error:
        raise UsageError(f"a document of policies cannot be written as YAML: {error}") from None
