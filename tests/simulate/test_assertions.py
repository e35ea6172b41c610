"""Grammar of assertions, and their outcomes."""

from __future__ import annotations

import pytest

from ratectl.errors import UsageError
from ratectl.simulate import Assertion, LimitCount, ScopeCount, Side

SIDE = Side(
    "policies",
    (
        ScopeCount("/web", 800, 8, 20),
        ScopeCount("/web/files", 100, 0, 0),
        ScopeCount("/website", 50, 50, 0),
        ScopeCount(None, 50, 0, 0),
    ),
    (
        LimitCount("/web", "spike", False, 792, 8, 0, 0, ()),
        LimitCount("/web/files", "spike", False, 100, 0, 0, 0, ()),
        LimitCount("/web", "part", True, 700, 0, 0, 20, ()),
        LimitCount("/web", "part", True, 72, 0, 0, 0, (), ("gold@/web",)),
        LimitCount("/website", "idle", False, 0, 0, 0, 0, ()),
    ),
)


@pytest.mark.parametrize(
    ("text", "holds", "measured"),
    [
        ("refused < 6%", True, "5.8% (58 of 1000 requests)"),
        ("refused<5.8%", False, "5.8% (58 of 1000 requests)"),
        (" refused  <=  5.8 % ", True, "5.8% (58 of 1000 requests)"),
        ("refused == 58", True, "5.8% (58 of 1000 requests)"),
        ("refused > 58", False, "5.8% (58 of 1000 requests)"),
        ("admitted >= 942", True, "94.2% (942 of 1000 requests)"),
        ("shadow <= 2%", True, "2% (20 of 1000 requests)"),
        ("refused[/web] < 1%", True, "0.8889% (8 of 900 requests)"),
        ("refused[/web/files] == 0", True, "0% (0 of 100 requests)"),
        ("refused[/] < 10%", True, "6.105% (58 of 950 requests)"),
        ("refused[spike] == 8", True, "0.8889% (8 of 900 requests)"),
        ("refused[ spike@/web ] >= 1%", True, "1% (8 of 800 requests)"),
        ("refused[spike@/web/files] == 0", True, "0% (0 of 100 requests)"),
        ("shadow[part] < 2.6%", True, "2.525% (20 of 792 requests)"),
        ("admitted[spike] > 99%", True, "99.11% (892 of 900 requests)"),
    ],
)
def test_outcomes(text: str, holds: bool, measured: str) -> None:
    outcome = Assertion.parse(text).judge(SIDE)
    assert (outcome.holds, outcome.measured) == (holds, measured)


@pytest.mark.parametrize(
    ("text", "measured"),
    [
        ("refused[spyke] == 0", "no request met a limit spyke; requests met: part, spike"),
        (
            "refused[spike@/] == 0",
            "no request met a limit spike at /; requests met: part, spike",
        ),
        ("refused[idle] < 1%", "no request met a limit idle; requests met: part, spike"),
        (
            "refused[/shop] == 0",
            "no request at /shop; requests met: /web, /web/files, /website",
        ),
    ],
)
def test_an_assertion_about_no_request_does_not_hold(text: str, measured: str) -> None:
    outcome = Assertion.parse(text).judge(SIDE)
    assert (outcome.holds, outcome.measured, outcome.total) == (False, measured, 0)


FORM = "is not an assertion: write refused < 1%, or shadow[/web] == 0"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", f"'' {FORM}"),
        ("refused", f"'refused' {FORM}"),
        ("refused = 1%", f"'refused = 1%' {FORM}"),
        ("refused < -1", f"'refused < -1' {FORM}"),
        ("refused < 1% and more", f"'refused < 1% and more' {FORM}"),
        ("refused[] < 1%", f"'refused[] < 1%' {FORM}"),
        ("refused < ١%", f"'refused < ١%' {FORM}"),
        (
            "denied < 1%",
            "'denied < 1%': 'denied' is not known; use refused, admitted or shadow",
        ),
        ("refused < 101%", "'refused < 101%': a share is at most 100%"),
        (
            "refused < 1.5",
            "'refused < 1.5': write a whole number of requests, or a share in %",
        ),
        (
            "refused[a.b] < 1%",
            "'refused[a.b] < 1%': 'a.b' is neither a limit nor a scope, like /web",
        ),
        (
            "refused[spike@web] < 1%",
            "'refused[spike@web] < 1%': 'spike@web' is not a limit at a scope, like spike@/web",
        ),
        (
            "refused[@/web] < 1%",
            "'refused[@/web] < 1%': '@/web' is not a limit at a scope, like spike@/web",
        ),
        (
            "refused[/web/] < 1%",
            "'refused[/web/] < 1%': '/web/' is not a limit at a scope, like spike@/web",
        ),
    ],
)
def test_mistakes(text: str, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        Assertion.parse(text)
    assert str(raised.value) == message
