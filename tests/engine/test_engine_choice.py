"""The engine in use, and the reason why it is not the compiled one."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

import ratectl
from ratectl import engine
from ratectl.errors import UsageError
from ratectl.health.examination import _check_engine as examine_engine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FAILURE = "gcc: No such file or directory"
REASON = f"the compiled core was not built: {FAILURE}"


@pytest.fixture
def not_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """An installation whose compilation failed."""
    note = tmp_path / "build_failure.txt"
    note.write_text(FAILURE + "\n")
    monkeypatch.setattr(engine, "_BUILD_FAILURE", note)
    monkeypatch.setitem(sys.modules, "ratectl.engine.native._fast", None)
    monkeypatch.delenv("RATECTL_ENGINE", raising=False)
    engine.why_not_compiled.cache_clear()
    yield
    engine.why_not_compiled.cache_clear()


@pytest.mark.usefixtures("not_built")
def test_a_failed_compilation_is_in_the_status_of_agents_and_in_doctor(tmp_path: Path) -> None:
    policies = tmp_path / "policies"
    policies.mkdir()
    (policies / "all.yaml").write_text("apiVersion: ratectl/v1\nscope: /\n")
    with ratectl.Agent(policies) as agent:
        assert agent.status.engine == f"pure ({REASON})"
    finding = examine_engine()
    assert (finding.status, finding.message) == ("ok", f"pure ({REASON})")


@pytest.mark.usefixtures("not_built")
def test_an_engine_chosen_by_name_needs_no_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATECTL_ENGINE", "pure")
    assert engine.describe_engine() == "pure"


@pytest.mark.usefixtures("not_built")
def test_the_compiled_engine_cannot_be_chosen_where_it_was_not_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RATECTL_ENGINE", "c")
    with pytest.raises(UsageError, match=f"RATECTL_ENGINE=c, but {REASON}: install a C compiler"):
        engine.describe_engine()


@pytest.mark.usefixtures("not_built")
def test_a_core_that_cannot_be_loaded_is_told_apart_from_one_that_was_not_built(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(engine, "_BUILD_FAILURE", tmp_path / "nothing")
    assert engine.describe_engine().startswith("pure (the compiled core cannot be loaded: ")


def test_the_compiled_engine_is_named_without_a_remark(monkeypatch: pytest.MonkeyPatch) -> None:
    if engine.why_not_compiled():
        pytest.skip("there is no compiled core here")
    monkeypatch.delenv("RATECTL_ENGINE", raising=False)
    assert engine.describe_engine() == "c"
