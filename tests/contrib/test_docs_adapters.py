"""The code of docs/adapters.md, as it is there."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import test_utils, web
from starlette.testclient import TestClient

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = (Path(__file__).parents[2] / "docs" / "adapters.md").read_text("utf-8")
POLICIES = """\
apiVersion: ratectl/v1
scope: /shop
limits:
  spike: {rate: 1/s, burst: 2, per: tenant}
"""
BLOCKS: dict[str, str] = dict(re.findall(r"```python (\w+)\n(.*?)```", PAGE, re.DOTALL))


@pytest.fixture(params=BLOCKS)
def app(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "all.yaml").write_text(POLICIES)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(BLOCKS[request.param], names)
    yield names["app"]
    names["agent"].close()


def test_the_page_has_code() -> None:
    assert set(BLOCKS) == {"asgi", "fastapi", "aiohttp"}


def answers_of(app: Any) -> list[tuple[int, Any]]:
    """Return status and headers of three answers to one tenant."""
    paths, headers = [f"/items/{number}" for number in range(3)], {"x-tenant": "acme"}

    async def ask() -> list[tuple[int, Any]]:
        async with test_utils.TestClient(test_utils.TestServer(app)) as http:
            answers = [await http.get(path, headers=headers) for path in paths]
            return [(answer.status, answer.headers) for answer in answers]

    if isinstance(app, web.Application):
        return asyncio.run(ask())
    with TestClient(app) as http:
        responses = [http.get(path, headers=headers) for path in paths]
    return [(response.status_code, response.headers) for response in responses]


def test_each_application_limits_its_clients(app: Any) -> None:
    answers = answers_of(app)
    assert [status for status, _ in answers] == [200, 200, 429]
    assert answers[2][1]["retry-after"] == "1"


def test_the_answer_of_the_page_is_one_that_is_sent() -> None:
    for part in ("Retry-After: 4", '"item";q=1;w=4, "all@/shop";q=100;w=60', '"item";r=0;t=4'):
        assert part in PAGE
