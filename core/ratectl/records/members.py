"""Records of the roster: members of the cluster, their shares, and owners of shards."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Self

from ratectl.errors import BundleError
from ratectl.records.base import MEMBERS, OWNERS, Record
from ratectl.records.checks import check_fields

__all__ = [
    "ID_PARTS",
    "MAX_TEXT",
    "WHOLE_SHARE",
    "MemberRecord",
    "OwnerHint",
    "RosterRecord",
    "agent_part",
    "member_key",
    "name_problem",
    "owner_key",
    "owner_member",
    "owner_name",
    "owner_shard",
]

ID_PARTS: Final = (60, 50)
"""Characters of an agent's id that the ids of its members begin with: on one machine, and over
TLS."""

WHOLE_SHARE: Final = 1_000_000
"""The sum of all shares, in millionths."""

MAX_TEXT: Final = 255
"""Most characters of an address, and of a host: a name in the DNS has no more."""

_NAME: Final = re.compile(r"[A-Za-z0-9._@-]{1,128}")
_MAX_BYTES: Final = 4_096


def member_key(member: str) -> str:
    """Return the key of a member's entry."""
    return f"{MEMBERS}{member}"


def owner_key(shard: str) -> str:
    """Return the key of the hint that names the owner of a shard."""
    return f"{OWNERS}{shard}"


def owner_name(shard: str, member: str) -> str:
    """Return the name of the owner of a shard in a member's process."""
    return f"{shard}.{member}"


def owner_shard(owner: str) -> str:
    """Return the shard of an owner, by its name."""
    return owner.partition(".")[0]


def owner_member(owner: str) -> str:
    """Return the member in whose process an owner runs, by the owner's name."""
    return owner.partition(".")[2]


def agent_part(member: str) -> str:
    """Return the part of a member's id that its agent's id begins with, or is."""
    return member.partition("@")[0].rpartition(".")[0]


def name_problem(name: str) -> str | None:
    """Return why this is no id of a member, and no name of an owner or shard; None if it is one."""
    if _NAME.fullmatch(name):
        return None
    return f"a name has 1 to 128 of the characters A-Z a-z 0-9 . _ @ -, unlike {name!r:.140}"


class _Small(Record):
    """A record whose size is bounded before it is parsed."""

    __slots__ = ()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """See ``Record.decode``."""
        if len(data) > _MAX_BYTES:
            raise BundleError(
                f"not a readable {cls.__name__}: {len(data)} bytes are more than {_MAX_BYTES}"
            )
        return super().decode(data)


@dataclass(frozen=True, slots=True, kw_only=True)
class RosterRecord(_Small):
    """State of the roster beside its entries. It exists since the first member joined."""

    unowned: int = 0
    """Share that no member owns, in millionths: its last owner gave it up, and stopped using it."""

    def check(self) -> None:
        """See ``Record.check``."""
        check_fields(self)
        _check_share(self.unowned)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberRecord(_Small):
    """A member's entry in the roster."""

    share: int
    """Millionths."""
    renewed: int
    """Grows with every write of the member itself, by a random step: a process knows its own
    writes. Writes of others leave it as it is."""
    address: str = ""
    """Address at which the process answers as an owner; empty if it does not."""
    host: str = ""
    dedicated: bool = False
    """The process owns limits for others and admits no requests itself: it never has a share."""

    def check(self) -> None:
        """See ``Record.check``."""
        check_fields(self)
        _check_share(self.share)
        if self.dedicated and self.share:
            raise ValueError(f"a dedicated owner has no share, not {self.share} millionths")
        if self.renewed < 0:
            raise ValueError(f"renewed cannot be {self.renewed!r}, less than 0")
        _check_text("address", self.address)
        _check_text("host", self.host)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerHint(_Small):
    """The owner to which members lend their shares of a shard. Nothing depends on its truth."""

    member: str
    """Id of the member in whose process the owner runs."""
    owner: str
    """Name of the owner."""
    address: str

    def check(self) -> None:
        """See ``Record.check``."""
        check_fields(self)
        for name in (self.member, self.owner):
            problem = name_problem(name)
            if problem:
                raise ValueError(problem)
        _check_text("address", self.address)


def _check_share(share: int) -> None:
    if not 0 <= share <= WHOLE_SHARE:
        raise ValueError(f"a share has 0 to {WHOLE_SHARE} millionths, not {share!r}")


def _check_text(name: str, text: str) -> None:
    if len(text) > MAX_TEXT or (text and not text.isprintable()):
        raise ValueError(
            f"{name} has at most {MAX_TEXT} printable characters, unlike {text!r:.100}"
        )
