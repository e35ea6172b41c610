"""URLs in output: no password, token or unexpected part is shown."""

from __future__ import annotations

from pathlib import PurePath

import pytest

from leaky_urls import LEAKY, SECRET
from ratectl.runtime.urls import scrubbed, shown


@pytest.mark.parametrize("url", LEAKY)
def test_no_secret_is_shown(url: str) -> None:
    assert SECRET not in shown(url)
    assert SECRET not in scrubbed(f"it said {shown(url)}, twice: ({shown(url)})")
    for argument in (url, f"--id={url}", f"--{url}", f"-{url}", f"--attr=a={url}", f"a={url}"):
        for repeated in (argument, repr(argument), f"'{argument}'", str(PurePath(argument))):
            text = scrubbed(f"unexpected argument ({repeated})", ["history", argument])
            assert SECRET not in text
    if ":/" in url and not set(url) & set(" '\"`\t"):
        assert SECRET not in scrubbed(f"unexpected argument ({url})")


@pytest.mark.parametrize(
    "url",
    [
        "etcd://127.0.0.1:2379/prod",
        "etcds://a.example:1,b:2,c/prod",
        "etcd://[::1]:2379/prod",
        "etcd://a,/prod",
        "sqlite:///rates.db",
        "sqlite:////var/lib/a b%20#@.db",
        "redis://x",
        "policies/shop",
        "",
    ],
)
def test_url_without_a_secret_is_shown_unchanged(url: str) -> None:
    assert shown(url) == url


def test_option_names_are_shown_and_their_values_are_not() -> None:
    assert shown("etcd://h/prod?password=x&token=y&z") == "etcd://h/prod?password=…&token=…&…"
    assert shown("etcd://root:x@h:1/prod") == "etcd://…@h:1/prod"
    assert shown("etcd://root:x/prod") == "etcd://root:…/prod"
    assert shown("etcd://h/prod#x") == "etcd://h/prod#…"
