"""Repairs of files: what is certain, what is left alone, and that valid files never change."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratectl.policy.format.repairs import repaired, repaired_file
from ratectl.policy.loading.loader import load

ROOT = Path(__file__).parents[2]
VALID = sorted((ROOT / "policies").rglob("*.yaml"))
INVALID = sorted((ROOT / "tests" / "invalid_policies").glob("*.yaml"))
HEAD = "apiVersion: ratectl/v1\nscope: /a\n"

CERTAIN = {
    "a misspelt field": ("limts: {a: {rate: 5/s}}", "limits: {a: {rate: 5/s}}"),
    "a misspelt field of a limit": ("limits: {a: {rat: 5/s}}", "limits: {a: {rate: 5/s}}"),
    "an upper-case field": ("Owner: x", "owner: x"),
    "a separator": ("on-error: deny", "on_error: deny"),
    "fields in a list": (
        "overrides: [{nmae: o, match: {t: x}, limits: {a: {rate: 5/s}}}]",
        "overrides: [{name: o, match: {t: x}, limits: {a: {rate: 5/s}}}]",
    ),
    "a number that is text": ("owner: 12  # who", 'owner: "12"  # who'),
    "a boolean that is text": ("description: true", 'description: "true"'),
    "a key": ("limits: {12: {rate: 5/s}}", 'limits: {"12": {rate: 5/s}}'),
    "attributes": (
        "limits: {a: {rate: 5/s, per: [t, 1]}}", 'limits: {a: {rate: 5/s, per: [t, "1"]}}',
    ),
    "matchers": (
        "overrides: [{name: o, match: {a: 10, b: [1], c: {not: true}}, limits: {a: {burst: 5}}}]",
        (
            'overrides: [{name: o, match: {a: "10", b: ["1"], c: {not: "true"}}, '
            "limits: {a: {burst: 5}}}]"
        ),
    ),
    "fields of matchers": (
        (
            "overrides: [{name: o, match: {a: {CIDR: 10.0.0.0/8}, b: {exists: yes}, "
            "c: {Exists: 'false'}, d: {nott: x}}, limits: {a: {burst: 5}}}]"
        ),
        (
            "overrides: [{name: o, match: {a: {cidr: 10.0.0.0/8}, b: {exists: true}, "
            "c: {exists: false}, d: {not: x}}, limits: {a: {burst: 5}}}]"
        ),
    ),
    "a quoted number": ("limits: {a: {burst: '20'}}", "limits: {a: {burst: 20}}"),
    "a word for true": ("protected: Yes", "protected: true"),
    "a quoted boolean": ('protected: "false"', "protected: false"),
    "a word of a list": (
        "limits: {a: {rate: 5/s, algorithm: Sliding_Window}}",
        "limits: {a: {rate: 5/s, algorithm: sliding-window}}",
    ),
    "units": (
        "limits: {a: {rate: 5/Sec}, b: {rate: 5 per minute}, c: {rate: 50/30Secs}}",
        "limits: {a: {rate: 5/s}, b: {rate: 5/min}, c: {rate: 50/30s}}",
    ),
    "quoted texts keep their quotes": (
        """limits: {"a": {"Rate":'5/Sec', "Mode":"OFF", "brust":"20"}}""",
        """limits: {"a": {"rate":'5/s', "mode":"off", "burst":20}}""",
    ),
    "a word without its separator": (
        "limits: {a: {rate: 5/s, algorithm: tokenbucket}}",
        "limits: {a: {rate: 5/s, algorithm: token-bucket}}",
    ),
    "a duration": (
        "limits: {a: {algorithm: concurrency, max: 5, hold: 5 Mins}}",
        "limits: {a: {algorithm: concurrency, max: 5, hold: 5min}}",
    ),
}  # fmt: skip

UNCERTAIN = {
    "a rate without a unit": "limits: {a: {rate: 100}}",
    "a minute or a month": "limits: {a: {rate: 100/m}}",
    "a minute or a month, in capitals": "limits: {a: {rate: 100/M}}",
    "an octal number": "limits: {a: {rate: 5/s, burst: 010}}",
    "an octal number in quotes": "limits: {a: {rate: 5/s, burst: '010'}}",
    "words and numbers on which readers disagree": (
        "description: yes\noverrides: [{name: o, match: {a: yes, b: 010, c: [1e3], d: {not: no}}, "
        "limits: {010: {rate: 5/s}, no: {rate: 5/s}}}]"
    ),
    "numbers with another spelling": "owner: 1_000\ndescription: 1.50",
    "two misspellings of one field": (
        "limits: {a: {rate: 5/s, brust: 3, Burst: 4}}\nLimits: {}\nlimts: {}"
    ),
    "a name with and without quotes": "limits: {1: {rate: 5/s}, '1': {rate: 5/s}}",
    "names in an unknown field": "quotas: {1: {rate: 5/Sec}}",
    "a field of a matcher that may be a word": (
        "overrides: [{name: o, match: {a: {no: x}}, limits: {a: {burst: 5}}}]"
    ),
    "two kinds": "Kind: Exception\nkin: Policy\nOwner: x",
    "an unknown kind": "kind: Quota\nOwner: x",
    "an unknown field": "quota: 5",
    "a field that is there already": "owner: x\nownr: y",
    "a field with two near ones": "caps: {a: {rste: 5/s}}",
    "a field of another place": "rate: 5/s",
    "an unknown word": "limits: {a: {rate: 5/s, mode: silent}}",
    "a value that is missing": "owner:",
    "null": "owner: null",
    "a tag": "owner: !!int 5",
    "an anchor": "owner: &a 5\ndescription: *a",
}


@pytest.mark.parametrize(("before", "after"), CERTAIN.values(), ids=CERTAIN)
def test_certain_repair(before: str, after: str) -> None:
    data, repairs = repaired_file(f"{HEAD}{before}\n".encode())
    assert data.decode() == f"{HEAD}{after}\n"
    assert repairs
    for repair in repairs:
        line = f"{HEAD}{before}\n".splitlines()[repair.line - 1]
        assert line[repair.column - 1 :].startswith(repair.before)
    assert load(["-"], stdin=data).ok


@pytest.mark.parametrize("text", UNCERTAIN.values(), ids=UNCERTAIN)
def test_uncertain_error_is_left_alone(text: str) -> None:
    data = f"{HEAD}{text}\n".encode()
    assert not load(["-"], stdin=data).ok
    assert repaired_file(data) == (data, ())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Kind: Exception", "kind: Exception"),
        ("kind: exception", "kind: Exception"),
        ('"Kind": "EXCEPTION"', '"kind": "Exception"'),
    ],
)
def test_document_of_another_kind_is_repaired_at_once(before: str, after: str) -> None:
    rest = "Reason: x\nuntil: 2036-01-01T00:00Z\nlimits: {a: {Rate: 9/s}}\n"
    mended = "reason: x\nuntil: 2036-01-01T00:00Z\nlimits: {a: {rate: 9/s}}\n"
    data, _ = repaired_file(f"{HEAD}{before}\n{rest}".encode())
    assert data.decode() == f"{HEAD}{after}\n{mended}"
    assert load(["-"], stdin=data).ok
    assert repaired_file(data) == (data, ())


def test_compact_json_stays_yaml() -> None:
    before = (
        '{"apiVersion":"ratectl/v1","scope":"/","Owner":"x",'
        '"limts":{"spike":{"rate":"5/Sec","brust":20}}}'
    )
    after = before.replace("Owner", "owner").replace("limts", "limits")
    after = after.replace("5/Sec", "5/s").replace("brust", "burst")
    assert repaired_file(before.encode())[0].decode() == after
    assert load(["-"], stdin=after.encode()).ok


def test_result_that_is_no_yaml_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    data = f"{HEAD}Owner: x\n".encode()
    wrong = (f"{HEAD}owner: [\n", repaired(data.decode())[1])
    monkeypatch.setattr("ratectl.policy.format.repairs.repaired", lambda _: wrong)
    assert repaired_file(data) == (data, ())


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_valid_file_needs_no_repair(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert repaired(text) == (text, ())


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_repaired_file_needs_no_further_repair(path: Path) -> None:
    data = path.read_bytes()
    better, repairs = repaired_file(data)
    assert (better == data) is (not repairs)
    assert repaired_file(better) == (better, ())


@given(st.text("{}[]:,&*!|>'\"#-\n ab1/sno", max_size=60))
def test_any_text_is_survived(text: str) -> None:
    data = f"{HEAD}{text}".encode()
    better, repairs = repaired_file(data)
    before, after = (
        {found.message for found in load(["-"], stdin=version).diagnostics}
        for version in (data, better)
    )
    assert before - after if repairs else better == data
    assert repaired_file(better) == (better, ())


def test_line_ends_and_comments_stay() -> None:
    data = f"# x\r\n{HEAD}limts: {{}}  # y\r\n".replace("\n", "\r\n").replace("\r\r", "\r").encode()
    assert repaired_file(data)[0] == data.replace(b"limts", b"limits")
