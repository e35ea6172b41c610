"""``ratectl schema``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ratectl.policy.language.kinds import KINDS
from ratectl.policy.language.schema import policy_schema, schema_text

if TYPE_CHECKING:
    from cli_support import Cli


def test_the_schema_is_printed_as_it_is(cli: Cli) -> None:
    assert cli("schema").out == schema_text()
    for kind in KINDS:
        assert json.loads(cli("schema", "--kind", kind).out) == policy_schema(kind)


def test_as_a_document(cli: Cli) -> None:
    document = cli("schema", "-o", "json").document
    assert (document["kind"], document["schema"]) == ("Schema", policy_schema())


def test_an_unknown_kind(cli: Cli) -> None:
    run = cli("schema", "--kind", "Polcy")
    assert run.code == 64
    assert "Policy" in run.err
