"""docs/adapters-others.md: its code runs, and limits."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import pytest

from ratectl import Limited

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAGE = (Path(__file__).parents[2] / "docs" / "adapters-others.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
PRINTED = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
POLICY = re.compile(r"# (/\w+): (\{.*\})$", re.MULTILINE)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], Any]]:
    """Yield a function that runs a block in a folder with its policy, and returns its names."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "policies").mkdir()
    names: dict[str, Any] = {}

    def run(number: int) -> dict[str, Any]:
        ((scope, limit),) = POLICY.findall(BLOCKS[number])
        (tmp_path / "policies" / "all.yaml").write_text(
            f"apiVersion: ratectl/v1\nscope: {scope}\nlimits: {{spike: {limit}}}\n"
        )
        exec(compile(BLOCKS[number], "docs/adapters-others.md", "exec"), names)
        return names

    yield run
    names["agent"].close()


def test_functions(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run(0)
    assert capsys.readouterr().out == PRINTED[0]


def test_grpc(run: Any) -> None:
    server = run(1)["server"]
    echo = grpc.unary_unary_rpc_method_handler(lambda request, _: request)
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("shop.Cart", {"Get": echo})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/shop.Cart/Get")
        tenant = [("x-tenant", "acme")]
        assert [call(b"a", metadata=tenant, timeout=20) for _ in range(2)] == [b"a", b"a"]
        with pytest.raises(grpc.RpcError) as refused:
            call(b"a", metadata=tenant, timeout=20)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    server.stop(0).wait()


def test_httpx(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = httpx.MockTransport(lambda _: httpx.Response(429, headers={"Retry-After": "30"}))
    monkeypatch.setattr(httpx, "HTTPTransport", lambda: answer)
    with run(2)["client"] as client:
        assert client.get("http://shop.example/").status_code == 429
        with pytest.raises(Limited, match="refused: retry after 30 s"):
            client.get("http://shop.example/")


def test_celery(run: Any) -> None:
    send = run(3)["send"]
    assert [send("ada@acme"), send("bob@acme")] == ["sent to ada@acme", "sent to bob@acme"]
    with pytest.raises(Limited, match="refused by spike@/mail"):
        send.apply(["eve@acme"], throw=True)
    assert send("eve@globex") == "sent to eve@globex"
