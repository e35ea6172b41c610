"""``ratectl cluster size``: estimates, and the smallest burst."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from cli_support import Cli

    from conftest import Golden

SIZE = ("cluster", "size", "--rate", "1000/s", "--members", "20")


def test_size(cli: Cli, golden: Golden) -> None:
    said = []
    for options in (
        ("--burst", "1000", "--rtt", "2ms"),
        ("--burst", "50", "--rtt", "50ms"),
        ("--burst", "41", "--rtt", "0s"),
        ("--burst", "20"),
    ):
        run = cli(*SIZE, *options)
        assert (run.code, run.err) == (0 if options[1] == "1000" else 1, "")
        said.append(f"$ ratectl {' '.join((*SIZE, *options))}\n{run.out}")
    golden("cluster-size", "\n".join(said))


def test_burst_that_is_named_is_enough(cli: Cli) -> None:
    for rtt in ("0s", "2ms", "50ms", "400ms"):
        document = cli(*SIZE, "--burst", "1", "--rtt", rtt, "-o", "json").document
        assert document["enough"] is False
        smallest = document["smallest_burst"]
        run = cli(*SIZE, "--burst", str(smallest), "--rtt", rtt, "-o", "json")
        assert (run.code, run.document["used_if_skewed"]) == (0, 1)
        assert cli(*SIZE, "--burst", str(smallest - 1), "--rtt", rtt).code == 1


def test_burst_is_one_second_of_the_rate_by_default(cli: Cli) -> None:
    assert cli(*SIZE, "-o", "json").document["burst"] == 1_000
    low = cli("cluster", "size", "--rate", "30/min", "--members", "1", "-o", "json").document
    assert (low["burst"], low["enough"]) == (1, False)


def test_size_needs_no_store(cli: Cli) -> None:
    assert cli(*SIZE, "--store", "etcd://127.0.0.1:1/x").code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--rate", "unlimited"), "unlimited is not a rate that can be shared"),
        (("--rate", "5/month"), "5/month is not a rate that can be shared"),
        (("--rate", "0/s"), "0/s is not a rate that can be shared"),
        (("--rate", "fast"), "'fast' is not a rate"),
        (("--rtt", "2"), "'2' is not a duration"),
        (("--rtt", "500ms"), "500ms is too long"),
        (("--members", "0"), "--members must be at least 1, not 0"),
        (("--members", "10001"), "--members must be at most 10000, not 10001"),
        (("--burst", "0"), "--burst must be"),
        (("--burst", "many"), "--burst"),
    ],
)
def test_size_with_wrong_options(cli: Cli, options: tuple[str, ...], message: str) -> None:
    given = {"--rate": "5/s", "--members": "2", options[0]: options[1]}
    run = cli("cluster", "size", *(word for pair in given.items() for word in pair))
    assert (run.code, run.out) == (64, "")
    assert message in run.err


@pytest.mark.parametrize("left_out", ["--rate", "--members"])
def test_size_needs_rate_and_members(cli: Cli, left_out: str) -> None:
    at = SIZE.index(left_out)
    run = cli(*SIZE[:at], *SIZE[at + 2 :])
    assert run.code == 64
    assert left_out in run.err
