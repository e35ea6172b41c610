"""docs/adapters-wsgi.md: the code that test_web_servers.py does not run, and its length."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from django.test import Client, override_settings
from django.urls import path
from werkzeug.test import Client as WsgiClient

from contrib.pages import files_of
from contrib.sites import make_agent
from ratectl.stores import open_store
from support import policies, publish_policies

if TYPE_CHECKING:
    from pathlib import Path

FILES = files_of("adapters-wsgi.md")


def test_the_page_has_all_files() -> None:
    assert list(FILES) == ["wsgi.py", "shop.py", "limits.py", "settings.py", "views.py"]


def run(name: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(FILES[name], name, "exec"), names)
    return names


def test_the_wsgi_application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spike = {"rate": "1/h", "burst": 2, "per": ["tenant", "ip"]}
    with open_store(f"sqlite:///{tmp_path}/rates.db") as store:
        publish_policies(store, policies(**{"/shop": {"limits": {"spike": spike}}}))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    names = run("wsgi.py")
    with names["agent"]:
        client = WsgiClient(names["application"])
        answers = [client.get("/", environ_base={"REMOTE_ADDR": "192.0.2.1"}) for _ in range(3)]
    assert [(each.status_code, each.text[:1]) for each in answers] == [
        *((200, "1"), (200, "0"), (429, "{"))
    ]


def test_the_decorator_of_django() -> None:
    with make_agent() as agent, override_settings(RATECTL={"agent": agent}, MIDDLEWARE=[]):
        view = path("mail", run("views.py")["mail"])
        with override_settings(ROOT_URLCONF=(view,)):
            answers = [Client().get("/mail") for _ in range(2)]
    assert [each.status_code for each in answers] == [200, 429]
    assert answers[0].content == b"0 left"


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["wsgi.py"], "ratectl|agent|attributes"),
        (["shop.py"], "ratectl|agent|attributes"),
        (["limits.py", "settings.py"], "."),
    ],
)
def test_the_glue_is_eight_lines_at_most(names: list[str], words: str) -> None:
    lines = "".join(FILES[name] for name in names).splitlines()
    assert len([line for line in lines if re.search(words, line)]) <= 8
