"""Arguments of an agent that are empty, or mean something else than they seem to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import ratectl
from ratectl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[..., ratectl.Agent]

POLICY = """\
apiVersion: ratectl/v1
scope: /
limits: {spike: {rate: 2/s, per: tenant}}
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with policies: following it by mistake would succeed."""
    folder = tmp_path / "cwd"
    folder.mkdir()
    (folder / "all.yaml").write_text(POLICY)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    return folder


def refusal(*given: Any, **options: Any) -> str:
    """Return the message with which the arguments are refused."""
    with pytest.raises(UsageError) as raised:
        ratectl.Agent(*given, **options)
    return str(raised.value)


NO_SOURCE: list[tuple[object, str]] = [
    ("", "source is empty: name a store's URL, like etcd://"),
    (" ", "source is empty"),
    ("\n", "source is empty"),
    (Path(), "source is an empty Path, or the working directory: write '.' or Path.cwd()"),
    (Path(), "write '.' or Path.cwd()"),
    (None, "source is a path: write a text or a Path, not NoneType"),
    (b"policies", "not bytes"),
    (7, "not int"),
    ("a\0b", "null character"),
    ("etcd:/127.0.0.1:2379/prod", "is not a store's URL, like etcd://host:2379/prod"),
    ("etcds:host/prod", "is not a store's URL"),
    ("sqlite:rates.db", "is not a store's URL"),
    (Path("sqlite:///rates.db"), "is not a store's URL"),
    ("sqlite://rates.db", "write sqlite:///rates.db (a relative path)"),
    ("sqlite:///", "several processes share a store, so it is a file"),
    ("etcd://127.0.0.1:2379", "names no environment"),
    ("etcd://127.0.0.1:2379/", "names no environment"),
    ("etcd:///prod", "an address is not host:port"),
    ("http://127.0.0.1/prod", "is not a store URL"),
    ("://", "is not a store URL"),
    (" sqlite:///rates.db", "blanks or line ends around it"),
    ("sqlite:///rates.db\n", "blanks or line ends around it"),
    ("nowhere", "is neither a store URL nor a directory of policies"),
    ("all.yaml/x", "is neither a store URL nor a directory of policies"),
]


@pytest.mark.parametrize(("given", "said"), NO_SOURCE, ids=lambda each: repr(each)[:30])
def test_unusable_source_is_refused(place: Path, given: object, said: str) -> None:
    assert said in refusal(given)
    assert [path.name for path in place.iterdir()] == ["all.yaml"]
    assert not (place.parent / "xdg").exists(), "no state was kept for it"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"state_dir": ""}, "state_dir is empty"),
        ({"state_dir": " "}, "state_dir is empty"),
        ({"state_dir": Path()}, "state_dir is an empty Path"),
        ({"state_dir": b"state"}, "not bytes"),
        ({"state_dir": "etcd://host/prod"}, "state_dir is a path, and 'etcd://host/prod' is a URL"),
        ({"id": ""}, "id '' has to be 1 to 128 letters"),
        ({"id": " edge"}, "id ' edge' has to be"),
        ({"id": "edge/1"}, "id 'edge/1' has to be"),
        ({"id": "edge\n"}, "has to be"),
        ({"id": "é"}, "has to be"),
        ({"id": "x" * 129}, "has to be"),
        ({"id": 5}, "id 5 has to be"),
        ({"id": b"edge"}, "id b'edge' has to be"),
        ({"public_keys": []}, "public_keys is empty"),
        pytest.param({"public_keys": iter([])}, "public_keys is empty", id="an empty iterator"),
        ({"public_keys": 5}, "public_keys is a list of files: write [FILE]"),
        ({"public_keys": [None]}, "a file of public_keys is a path: write a text or a Path"),
        ({"public_keys": ["a.pub"], "environment": 5}, "environment is a text, not int"),
        ({"public_keys": ""}, "public_keys is a list of files"),
        ({"public_keys": "platform.pub"}, "public_keys is a list of files"),
        ({"public_keys": b"platform.pub"}, "public_keys is a list of files"),
        ({"public_keys": Path("platform.pub")}, "public_keys is a list of files"),
        ({"public_keys": [""]}, "the name of a key file is empty"),
        ({"environment": "prod"}, "needs public_keys"),
        ({"stable_keys": "0123456789abcdef"}, "a secret of at least 16 bytes, not str: make one"),
        ({"stable_keys": b"short"}, "not 5 bytes: make one with secrets.token_bytes(16)"),
        ({"report_interval": float("nan")}, "report_interval is at least"),
    ],
    ids=repr,
)
def test_unusable_option_is_refused(place: Path, options: dict[str, Any], said: str) -> None:
    assert said in refusal("sqlite:///rates.db", **options)
    assert [path.name for path in place.iterdir()] == ["all.yaml"]


@pytest.mark.parametrize("given", [".", "./", "all.yaml", "../cwd"])
def test_named_directory_is_followed(place: Path, make_agent: Make, given: str) -> None:
    assert make_agent(given).generation == 1


def test_later_chdir_does_not_change_the_followed_directory(
    place: Path, make_agent: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = make_agent(".", state_dir="state")
    other = tmp_path / "other"
    other.mkdir()
    (other / "all.yaml").write_text(POLICY.replace("2/s", "9/s"))
    monkeypatch.chdir(other)
    (place / "all.yaml").write_text(POLICY.replace("2/s", "3/s"))
    assert agent.wait_for_generation(2, 10)
    assert agent.check("/", {"tenant": "a"}).capacity == 3
    assert [path.name for path in other.iterdir()] == ["all.yaml"]


def test_relative_state_home_is_ignored(
    place: Path, make_agent: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "state")
    monkeypatch.setenv("HOME", str(tmp_path))
    make_agent(f"sqlite:///{tmp_path}/rates.db", state_dir=None, ready_timeout=0)
    assert (tmp_path / ".local" / "state" / "ratectl" / "agents").is_dir()
    assert not (place / "state").exists()


def test_without_a_home_directory_the_state_directory_has_to_be_named(
    place: Path, make_agent: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    url = f"sqlite:///{tmp_path}/rates.db"
    assert "there is no home directory to keep state in: name a state directory" in refusal(url)
    assert make_agent(url, state_dir=tmp_path / "state", ready_timeout=0).id


def test_stable_keys_reach_the_engine(place: Path, make_agent: Make) -> None:
    keys = make_agent(place, stable_keys=b"0123456789abcdef")._engine.stable_keys
    assert keys is not None
    assert keys.key_of(["acme"]) == 4_785_320_350_872_532_765
    assert make_agent(place)._engine.stable_keys is None


def test_source_without_permission_is_reported_as_unreadable(place: Path, make_agent: Make) -> None:
    closed = place / "closed"
    closed.mkdir()
    if os.geteuid() == 0:
        (closed / "loop").symlink_to("loop")  # an error other than "not found"
        with pytest.raises(ratectl.PolicyError, match="cannot read"):
            make_agent(closed / "loop")
    else:
        closed.chmod(0)
        with pytest.raises(ratectl.PolicyError, match="cannot read"):
            make_agent(closed / "policies")
