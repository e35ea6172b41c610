"""Environments, as text and as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ratectl.runtime.urls import shown
from ratectl_cli.framework.text import Column, Table, bold, dim, paragraph

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ratectl.environments import Surveyed, Target
    from ratectl_cli.framework.text import Block

__all__ = ["Listing", "listing_blocks", "listing_data", "protection_blocks"]


@dataclass(frozen=True, slots=True)
class Listing:
    """Answer of `ratectl env list`."""

    file: str | None
    """Path of `ratectl.yaml`; None if there is none."""
    policies: str
    environments: Sequence[Surveyed]
    chosen: Target | None
    """Store that commands use; None if they need ``-e``."""
    problem: str | None
    """Why none is chosen."""

    def is_chosen(self, environment: Surveyed) -> bool:
        """Return True if commands use this environment."""
        chosen, target = self.chosen, environment.target
        return chosen is not None and (chosen.environment, chosen.url) == (
            target.environment,
            target.url,
        )


def listing_data(listing: Listing) -> dict[str, Any]:
    """Return environments for programs."""
    return {
        "file": listing.file,
        "policies": listing.policies,
        "chosen_by": None if listing.chosen is None else listing.chosen.chosen_by,
        "problem": listing.problem,
        "environments": [
            {
                "name": each.target.environment,
                "store": shown(each.target.url),
                "chosen": listing.is_chosen(each),
                "answers": each.answers,
                "problem": each.problem,
                "generation": each.generation,
                "protection": each.protection.data(),
                "stored_protection": each.stored.data(),
            }
            for each in listing.environments
        ],
    }


def listing_blocks(listing: Listing) -> Iterator[Block]:
    """Yield environments for people."""
    yield Table(
        (
            Column("USED"),
            Column("ENVIRONMENT"),
            Column("STORE", 2, "text", 20),
            Column("STATE"),
            Column("PROTECTION", 3, "text", 12),
        ),
        [
            [
                "*" if listing.is_chosen(each) else "",
                each.target.environment or "-",
                shown(each.target.url),
                bold(_state(each), "red" if each.problem else "green"),
                str(each.protection),
            ]
            for each in listing.environments
        ],
    )
    for each in listing.environments:
        if each.problem is not None:
            who = bold(f"{each.target.environment or 'store'}: ", "red")
            yield paragraph([who, each.problem])
        elif each.target.protection.without(each.stored):
            yield paragraph([bold("only in the file: ", "yellow"), _unstored(each)])
    yield paragraph([dim("used:     "), _used(listing)])
    yield paragraph([dim("policies: "), listing.policies])


def _state(environment: Surveyed) -> str:
    if environment.problem is not None:
        return "another name" if environment.answers else "no answer"
    if environment.generation is None:
        return "nothing published"
    return f"generation {environment.generation}"


def _unstored(environment: Surveyed) -> str:
    name = environment.target.environment
    missing = environment.target.protection.without(environment.stored)
    return f"{missing} of {name}; `ratectl env protect {name}` keeps it in the store as well"


def _used(listing: Listing) -> str:
    chosen = listing.chosen
    if chosen is None:
        return listing.problem or "none"
    if chosen.makes_folder:
        return f"{chosen}, because nothing names a store"
    return f"{chosen}, chosen by {chosen.chosen_by}"


def protection_blocks(what: str, protection: str) -> Iterator[Block]:
    """Yield what was changed in the protection of an environment."""
    yield [bold(f"{what}: ", "green"), protection]
