"""Tampering: no agent with keys enforces it, and no honest operator signs it.

Each row of the table is tested on a running agent, on a restarted one, and again after actions of
honest operators who do not know of it.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from agent.tampering.scene import Scene
from agent.tampering.table import TAMPERINGS
from etcd_server import wait_for
from ratectl.errors import RatectlError
from ratectl.records import AGENTS
from support import once

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import ratectl
    from agent.tampering.scene import Row

    Make = Callable[..., ratectl.Agent]

pytestmark = once

ROWS = [
    pytest.param(row, id=f"{kind}: {row.name}") for kind, rows in TAMPERINGS.items() for row in rows
]
SAMPLE = [
    pytest.param(rows[position], id=f"{kind}: {rows[position].name}")
    for kind, rows in TAMPERINGS.items()
    for position in (0, -1)
]


@pytest.fixture
def scene(tmp_path: Path, make_agent: Make) -> Iterator[Scene]:
    with Scene(f"sqlite:///{tmp_path}/rates.db", tmp_path, make_agent) as found:
        yield found


def try_it(scene: Scene, row: Row) -> None:
    row.tamper(scene)
    scene.check_agent("at once")
    if row.said is not None:
        said = row.said
        wait_for(lambda: said in (scene.agent.status.error or ""), f"{said!r} is reported")
    scene.restart()
    scene.check_agent("after a restart")
    scene.wait_for_report()
    scene.note_records()
    for name, action in scene.honest_actions().items():
        scene.act(name, action)
    scene.restart()
    scene.check_agent("after a restart, with honest help")


@pytest.mark.parametrize("row", ROWS)
def test_tampering_is_neither_enforced_nor_signed(scene: Scene, row: Row) -> None:
    scene.misled = row in TAMPERINGS["environments"]
    try_it(scene, row)


OLD = [row for rows in TAMPERINGS.values() for row in rows if "old" in (row.said or "")]


@pytest.mark.parametrize("row", OLD, ids=lambda row: row.name)
def test_old_records_continued_without_agents_are_not_enforced(scene: Scene, row: Row) -> None:
    """A signer keeps no state and gets no reports here, but agents remember what they obeyed."""
    scene.agent.close()
    row.tamper(scene)
    scene.misled = True
    for name in ("turn a switch on", "try a candidate", "abort the rollout"):
        scene.agent.close()
        scene.store.delete(AGENTS + scene.agent.id)
        with contextlib.suppress(RatectlError):
            scene.honest_actions()[name]()
        scene.restart()
        scene.check_agent(f"after an attempt to {name}")


@pytest.mark.parametrize("row", TAMPERINGS["environments"], ids=lambda row: row.name)
def test_a_bound_key_signs_for_no_other_environment(scene: Scene, row: Row) -> None:
    scene.bind()
    try_it(scene, row)


def test_honest_operators_can_act_without_tampering(
    scene: Scene,
) -> None:
    """Otherwise the refusals in the table would prove nothing."""
    scene.note_records()
    for name, action in scene.honest_actions().items():
        if name in ("advance the rollout", "promote the rollout"):
            continue  # no rollout is under way
        scene.act(name, action, refused=())
    wait_for(lambda: scene.agent.status.error is None, "the watch has delivered the last turn too")


@pytest.mark.etcd
@pytest.mark.parametrize("row", SAMPLE)
def test_tampering_is_neither_enforced_nor_signed_on_etcd(
    tmp_path: Path, make_agent: Make, request: pytest.FixtureRequest, row: Row
) -> None:
    url = request.getfixturevalue("etcd_server").store_url(f"tampered-{tmp_path.name}")
    with Scene(url, tmp_path, make_agent) as scene:
        scene.misled = row in TAMPERINGS["environments"]
        try_it(scene, row)
