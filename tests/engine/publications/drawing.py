"""Stories by chance: small worlds, edits of every kind, and traffic that drains what it can."""

from __future__ import annotations

import random
from copy import deepcopy
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from engine.publications.playing import Request, Step, Story
from engine.publications.world import START
from policy.trees import tree
from ratectl.policy.language.model import Exemption, with_exceptions
from ratectl.policy.validation.tree import check_tree

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.publications.resolving import Documents

NS: Final = 10**9
SCOPES: Final = ("/", "/a", "/a/b", "/c")
ASKED: Final = ("/", "/a", "/a/b", "/a/b/x", "/c")
PERS: Final[tuple[list[str], ...]] = (["tenant"], ["tenant"], ["tenant", "user"], ["user"], [])
MATCHES: Final[tuple[dict[str, Any], ...]] = (
    {"tier": "gold"}, {"tier": ["gold", "free"]}, {"tier": {"not": "gold"}}, {"tenant": "x"},
    {"tenant": "y", "tier": "gold"}, {"tenant": "elsewhere"}, {"user": "u"},
)  # fmt: skip
LIMITS: Final[dict[str, tuple[dict[str, Any], ...]]] = {
    "tokens": tuple(
        {"algorithm": "token-bucket", "rate": rate, "burst": burst}
        for rate, burst in (
            ("1/s", 20), ("40/s", 20), ("4/s", 8), ("1/h", 100), ("1/10s", 3), ("1/s", 1),
            ("20/min", 100), ("10/s", 50),
        )
    ),
    "window": tuple(
        {"algorithm": "sliding-window", "rate": rate}
        for rate in ("20/2s", "8/10s", "100/min", "1/2s", "20/10s", "5/h")
    ),
    "quota": (
        *({"algorithm": "quota", "rate": each} for each in ("20/min", "8/min", "100/h", "1/min")),
        {"algorithm": "quota", "rate": "30/day", "resets": "06:00 Europe/Berlin"},
    ),
    "slots": tuple(
        {"algorithm": "concurrency", "max": most, "hold": hold}
        for most, hold in ((3, "10s"), (8, "60s"), (1, "10s"), (20, "5min"))
    ),
}  # fmt: skip
KINDS: Final = (*LIMITS, "mixed")
APART: Final = "/z"
"""Scope of a request that no edit of limits reaches: its limits are its own."""
WAITS: Final = (
    0,
    0,
    NS // 40,
    NS // 4,
    NS // 2,
    NS,
    NS,
    2 * NS,
    5 * NS,
    11 * NS,
    61 * NS,
    700 * NS,
)


class Drawing:
    """One story; ``kind`` names the algorithms, ``only_identities`` leaves every rate alone."""

    def __init__(self, seed: int, kind: str, *, only_identities: bool = False) -> None:
        self.chance = random.Random(f"{kind} {seed}")
        self.kind, self.only_identities = kind, only_identities
        self.limits = [each for of in LIMITS.values() for each in of]
        if kind != "mixed":
            self.limits = list(LIMITS[kind])
        self.names = 0
        self.passed = 0
        self.exceptions: list[dict[str, Any]] = []
        self.alone = self.chance.random() < 0.4
        """Every request has a tenant of its own, and all limits count per tenant."""
        self.pers = [per for per in PERS if "tenant" in per or not self.alone]
        bystander = Request(APART, {"tenant": "z"})
        self.requests = (*(self._request(number) for number in range(5)), bystander)
        own = {**self._limit(), "per": ["tenant"]}
        self.documents: Documents = {
            "/": {"limits": {"l": self._limit()}},
            APART: {"unset": ["l", "m"], "limits": {"l": own}},
        }
        self.steps: list[Step] = []
        self.past: list[Documents] = []
        self.before: Documents | None = None
        """Documents to publish again soon, after an edit that ended or blocked a limit."""
        self.edits = [*_IDENTITY]
        if not only_identities:  # a few kinds in each story meet more often than all of them
            self.edits = self.chance.sample(_IDENTITY, self.chance.randrange(3, len(_IDENTITY)))
            self.edits += self.chance.sample(_PARAMETERS, self.chance.randrange(1, 6))

    def story(self, edits: int) -> Story:
        chance = self.chance
        for _ in range(chance.randrange(4)):
            self._try(chance.choice(_IDENTITY))
        if not self.only_identities:
            if chance.random() < 0.3:
                self.documents["/"]["limits"]["m"] = self._limit()
            if chance.random() < 0.3:
                self._try(Drawing._edit_budget)
        self.exceptions = []
        self._publish("start")
        clocks = not self.only_identities and chance.random() < 0.2
        evicting = chance.random() < 0.25
        for _ in range(edits):
            for _ in range(chance.randrange(1, 6)):
                self._traffic(clocks, evicting)
            drained = [("drain", chance.randrange(5))]
            self.steps += drained if chance.random() < 0.4 else []
            self._edit()
            self.steps += drained if chance.random() < 0.4 else []
        for number in range(len(self.requests)):
            self.steps.append(("drain", number))
        bound = chance.choice((None, None, 6, 40)) if evicting else None
        return Story(self.requests, tuple(self.steps), bound)

    # Traffic

    def _request(self, number: int) -> Request:
        values = {
            "tenant": "xyuvw"[number] if self.alone else self.chance.choice(("x", "x", "y")),
            "tier": self.chance.choice(("gold", "free", None)),
            "user": self.chance.choice(("u", "v", None)),
        }
        attributes = {name: value for name, value in values.items() if value is not None}
        return Request(self.chance.choice(ASKED), attributes)

    def _traffic(self, clocks: bool, evicting: bool) -> None:
        chance, what = self.chance, self.chance.random()
        number = chance.randrange(len(self.requests))
        if what < 0.45:
            self.steps.append(("ask", number, chance.choice((0, 1, 1, 2, 3, 5, 9))))
        elif what < 0.63:
            self.steps.append(("drain", number))
        elif what < 0.66:
            self.steps.append(("named", number, chance.choice((1, 1, 3))))
        elif what < 0.88:
            self.passed += (duration := chance.choice(WAITS))
            self.steps.append(("wait", duration))
        elif what < 0.92 and not self.only_identities:
            self.steps.append(("settle", chance.randrange(50), chance.choice((0, 1, 2, 7))))
        elif what < 0.96:
            self.steps.append(("release", chance.randrange(50)))
        elif clocks:
            self.steps.append((chance.choice(("wait", "wall")), -chance.choice(WAITS)))
        elif evicting:
            attributes = {"tier": chance.choice(("gold", "free"))}
            self.steps.append(("strangers", 60, chance.choice(ASKED), attributes))

    # Edits

    def _publish(self, kind: str) -> None:
        self.past.append(deepcopy(self.documents))
        self.steps.append(("publish", kind, self.past[-1], deepcopy(self.exceptions)))

    def _edit(self) -> None:
        """Publish one edit; sometimes there and back, or forty in a row, with no look between."""
        what = self.chance.random()
        if self.before is not None and what < 0.7:
            self.documents, self.before = self.before, None
            self._publish("on again")
            return
        if what < 0.06 and len(self.past) > 1:
            self.documents = deepcopy(self.chance.choice(self.past[-4:]))
            if self._valid():
                self._publish("back to an earlier state")
                return
            self.documents = deepcopy(self.past[-1])
        elif what < 0.12:
            before = deepcopy(self.documents)
            self._publish(self._draw())
            self.documents = before
            self._publish("there and back")
            return
        elif what < 0.14:
            self._forty()
            return
        self._publish(self._draw())

    def _forty(self) -> None:
        """Publish six new states, in some order, again and again."""
        states = []
        for _ in range(6):
            self._draw()
            states.append((deepcopy(self.documents), list(self.exceptions)))
        for _ in range(40):
            self.documents, self.exceptions = deepcopy(self.chance.choice(states))
            self._publish("forty in a row")

    def _draw(self) -> str:
        for _ in range(20):
            edit, before = self.chance.choice(self.edits), deepcopy(self.documents)
            if self._try(edit):
                self.before = before if edit in _BLOCKING else None
                return edit.__name__.removeprefix("_edit_").replace("_", " ")
        return "nothing"

    def _try(self, edit: Callable[[Drawing], None]) -> bool:
        before, exceptions = deepcopy(self.documents), list(self.exceptions)
        edit(self)
        if self._valid() and (before, exceptions) != (self.documents, self.exceptions):
            return True
        self.documents, self.exceptions = before, exceptions
        return False

    def _valid(self) -> bool:
        if self.only_identities:
            return True
        try:
            made = [(Exemption.model_validate(each), None) for each in self.exceptions]
            found = check_tree(with_exceptions(tree(self.documents), made))
        except ValueError:
            return False
        return all(each.severity != "error" for each in found)

    def _limit(self) -> dict[str, Any]:
        return {**self.chance.choice(self.limits), "per": self.chance.choice(self.pers)}

    def _somewhere(self) -> dict[str, Any]:
        return self.documents[self._declared()]

    def _declared(self) -> str:
        return self.chance.choice([scope for scope in self.documents if scope != APART])

    def _fields(self) -> dict[str, Any]:
        """Return fields of an override or of a deeper scope."""
        if self.only_identities or self.chance.random() < 0.4:
            same = (
                {"mode": "enforce"},
                {"mode": "enforce"},
                {"per": self.chance.choice(self.pers)},
            )
            return dict(self.chance.choice(same))
        fields = dict(self.chance.choice(self.limits))
        kept = self.chance.choice(list(fields))
        if kept == "algorithm" or self.chance.random() < 0.5:
            return fields
        return {kept: fields[kept]}

    def _override(self) -> dict[str, Any]:
        self.names += 1
        limits = {"l": self._fields()}
        return {"name": f"o{self.names}", "match": self.chance.choice(MATCHES), "limits": limits}

    # Edits of identities

    def _edit_scope(self) -> None:
        """A scope is declared, without a word, or its document is deleted."""
        scope = self.chance.choice(SCOPES[1:])
        if self.documents.pop(scope, None) is None:
            self.documents[scope] = {}

    def _edit_override_added(self) -> None:
        overrides = self._somewhere().setdefault("overrides", [])
        if len(overrides) < 3:
            overrides.insert(self.chance.randrange(len(overrides) + 1), self._override())

    def _edit_override_removed(self) -> None:
        overrides = self._somewhere().get("overrides", [])
        if overrides:
            overrides.pop(self.chance.randrange(len(overrides)))

    def _edit_match(self) -> None:
        overrides = self._somewhere().get("overrides", [])
        if overrides:
            self.chance.choice(overrides)["match"] = self.chance.choice(MATCHES)

    def _edit_order(self) -> None:
        overrides = self._somewhere().get("overrides", [])
        if self.only_identities or len(overrides) > 1:
            overrides.reverse()

    def _edit_per(self) -> None:
        self.documents["/"]["limits"]["l"]["per"] = self.chance.choice(self.pers)

    def _edit_many_to_one(self) -> None:
        self.documents["/"]["limits"]["l"]["per"] = ["tenant"] if self.alone else []

    # Edits of parameters

    def _edit_limit(self) -> None:
        before = self.documents["/"]["limits"]["l"]
        self.documents["/"]["limits"]["l"] = {**self._limit(), "per": before["per"]}

    def _edit_override_fields(self) -> None:
        overrides = self._somewhere().get("overrides", [])
        if overrides:
            self.chance.choice(overrides)["limits"] = {"l": self._fields()}

    def _edit_override_cap(self) -> None:
        """An override caps the limit, by another number, or no longer."""
        overrides = self._somewhere().get("overrides", [])
        if overrides:
            override = self.chance.choice(overrides)
            burst = self.chance.choice((0, 2, 7, 15, None))
            override.pop("caps", None)
            if burst is not None:
                override["caps"] = {"l": {"burst": burst}}

    def _edit_deeper_fields(self) -> None:
        scope = self.chance.choice(SCOPES[1:])
        self.documents.setdefault(scope, {})["limits"] = {"l": self._fields()}

    def _edit_second_limit(self) -> None:
        limits = self._somewhere().setdefault("limits", {})
        if limits.pop("m", None) is None:
            limits["m"] = self._limit()

    def _edit_unset(self) -> None:
        document = self.documents.setdefault(self.chance.choice(SCOPES[1:]), {})
        if document.pop("unset", None) is None:
            document["unset"] = [self.chance.choice(("l", "m"))]

    def _edit_mode(self) -> None:
        limit = self._somewhere().setdefault("limits", {}).setdefault("l", {})
        modes = ("off", "shadow", "enforce")
        limit["mode"] = (
            "enforce" if limit.get("mode", "enforce") != "enforce" else (self.chance.choice(modes))
        )

    def _edit_rate_zero(self) -> None:
        limit = self.documents["/"]["limits"]["l"]
        if limit["algorithm"] == "concurrency":
            limit["max"] = 0
        else:
            unit = limit["rate"].partition("/")[2]
            limit["rate"] = f"0/{unit}"

    def _edit_unlimited(self) -> None:
        limit = self.documents["/"]["limits"]["l"]
        if limit["algorithm"] != "concurrency":
            limit["rate"] = "unlimited"

    def _edit_small_burst(self) -> None:
        """A step of a chain through a small capacity."""
        limit = self.documents["/"]["limits"]["l"]
        if limit["algorithm"] == "token-bucket":
            limit["burst"] = 1
        elif limit["algorithm"] == "concurrency":
            limit["max"] = 1
        elif limit["rate"] != "unlimited":
            limit["rate"] = f"1/{limit['rate'].partition('/')[2]}"

    def _edit_budget(self) -> None:
        document = self._somewhere()
        if self.chance.random() < 0.3:
            document.pop("budgets", None)
            return
        made = self._limit()
        if made["algorithm"] != "concurrency" or self.kind == "slots":
            document["budgets"] = {"b": {**made, "per": self.chance.choice(self.pers)}}

    def _edit_exception(self) -> None:
        """One begins at once or soon, and ends before long; or all are withdrawn."""
        if self.exceptions and self.chance.random() < 0.3:
            self.exceptions = []
            return
        begins = START + self.passed + self.chance.choice((0, 1, 3)) * NS
        until = begins + self.chance.choice((2, 5, 30, 600)) * NS
        self.names += 1
        made: dict[str, Any] = {
            "scope": self._declared(),
            "reason": f"e{self.names}",
            "from": _written(begins),
            "until": _written(until),
            "limits": {"l": dict(self.chance.choice(self.limits))},
        }
        if self.chance.random() < 0.6:
            made["match"] = self.chance.choice(MATCHES)
        self.exceptions.append(made)


_IDENTITY: Final = (
    Drawing._edit_scope, Drawing._edit_scope, Drawing._edit_override_added,
    Drawing._edit_override_removed, Drawing._edit_match, Drawing._edit_match, Drawing._edit_order,
    Drawing._edit_per, Drawing._edit_many_to_one,
)  # fmt: skip
_PARAMETERS: Final = (
    Drawing._edit_limit, Drawing._edit_limit, Drawing._edit_override_fields,
    Drawing._edit_override_cap, Drawing._edit_override_cap,
    Drawing._edit_deeper_fields, Drawing._edit_second_limit, Drawing._edit_unset,
    Drawing._edit_mode, Drawing._edit_rate_zero, Drawing._edit_unlimited,
    Drawing._edit_small_burst, Drawing._edit_budget, Drawing._edit_exception,
)  # fmt: skip
_BLOCKING: Final = (
    Drawing._edit_unset, Drawing._edit_mode, Drawing._edit_rate_zero, Drawing._edit_unlimited,
    Drawing._edit_small_burst,
)  # fmt: skip


def _written(instant: int) -> str:
    return datetime.fromtimestamp(instant / NS, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
