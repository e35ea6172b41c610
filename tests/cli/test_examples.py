"""The example tree that users copy: valid, alike in both its places, and as its comments say."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ratectl.policy import load_checked
from ratectl.policy.resolve import Resolver

if TYPE_CHECKING:
    from ratectl.policy.limits import Limit

POLICIES = Path(__file__).parents[2] / "policies"
FILES = sorted(path.relative_to(POLICIES).as_posix() for path in POLICIES.rglob("*.yaml"))


def limit(scope: str, name: str) -> Limit:
    resolved = Resolver(load_checked([POLICIES]).tree).at(scope)
    assert resolved is not None
    return resolved.limits[name]


def test_the_tree_validates_without_a_warning() -> None:
    """As a whole: six files, nine scopes."""
    loaded = load_checked([POLICIES])
    assert loaded.diagnostics == ()
    assert len(loaded.tree.policies) == 9
    assert {policy.owner is not None for policy in loaded.tree.policies.values()} == {True}
    assert {policy.description is not None for policy in loaded.tree.policies.values()} == {True}


@pytest.mark.parametrize("name", FILES)
def test_every_file_reads_without_an_error_in_its_syntax(name: str) -> None:
    """Alone, too: what it inherits may be missing, but nothing in it is malformed."""
    loaded = load_checked([POLICIES / name])
    assert [
        found.code
        for found in loaded.diagnostics
        if found.code not in ("RC123", "RC203", "RC301", "RC303")
    ] == []


def test_what_demo_and_init_install_is_the_same_tree() -> None:
    """The copy in the package is held equal, file by file."""
    packaged = files("ratectl_cli") / "examples" / "policies"
    assert (
        sorted(
            path.relative_to(Path(str(packaged))).as_posix()
            for path in Path(str(packaged)).rglob("*")
            if path.is_file()
        )
        == FILES
    )
    for name in FILES:
        copied = packaged.joinpath(*name.split("/")).read_bytes()
        assert copied == (POLICIES / name).read_bytes(), f"cp policies/{name} into the package"


def test_it_shows_what_its_comments_say() -> None:
    """Field by field, clipped by a cap, shadow, unset, several attributes, none."""
    spike = limit("/internal", "spike")
    assert (str(spike.rate), spike.burst, spike.per) == ("200/s", 400, ("client",))
    clipped = limit("/payments/refunds", "spike")
    assert (str(clipped.rate), clipped.burst) == ("10/s", 20)
    assert clipped.clips.keys() == {"rate", "burst"}
    assert not limit("/payments/refunds/payouts", "spike").clips
    assert limit("/payments/checkout", "card-testing").mode == "shadow"
    assert limit("/payments/checkout", "card-testing").per == ("card", "merchant")
    assert limit("/web/files", "uplink").per == ()
    with pytest.raises(KeyError):
        limit("/web/search", "part")
    with pytest.raises(KeyError):
        limit("/internal", "hourly")
