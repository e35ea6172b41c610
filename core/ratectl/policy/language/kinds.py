"""Kinds of documents, and the model of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ratectl.policy.language.model import Exemption, Policy
from ratectl.policy.language.testcase import PolicyTest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel

__all__ = ["DEFAULT_KIND", "KINDS"]

KINDS: Final[Mapping[str, type[BaseModel]]] = {
    "Policy": Policy,
    "Exception": Exemption,
    "PolicyTest": PolicyTest,
}

DEFAULT_KIND: Final = "Policy"
"""Kind of a document without the field ``kind``."""
