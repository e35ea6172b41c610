"""Small texts that are extremely expensive to read without bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from ratectl.policy import codes

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BOMBS", "Bomb"]


class Bomb(NamedTuple):
    """A function that makes the text, and the finding that stops its reading."""

    text: Callable[[], str]
    code: str
    place: str
    """Pattern of the message: parsers give up at different places."""
    """Line:column; empty for the file as a whole."""


def _laughs() -> str:
    levels = (
        f"{name}: &{name} [{','.join([f'*{chr(ord(name) - 1)}'] * 9)}]\n"
        for name in "bcdefghijklmnopqrstuvw"
    )
    return "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(levels)


def _merges() -> str:
    levels = (f"a{i}: &a{i} {{<<: [{','.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 40))
    return "a0: &a0 {x: w}\n" + "".join(levels)


def _inheritance() -> str:
    limits = ", ".join(f"x{i}: {{rate: 1/s}}" for i in range(2_500))
    scopes = (f"---\napiVersion: ratectl/v1\nscope: /s{i}\n" for i in range(1_000))
    return f"apiVersion: ratectl/v1\nscope: /\nlimits: {{{limits}}}\n" + "".join(scopes)


BOMBS: Final = {
    "3 10 MB": Bomb(lambda: "a: b\n" * 2_000_000, codes.TOO_LARGE, ""),
    "3 many lines": Bomb(lambda: "#a\n" * 2_500_000, codes.TOO_LARGE, ""),
    "3 as many lines as fit": Bomb(lambda: "#abcdef\n" * 999_999, codes.NO_POLICIES, ""),
    "3 many values": Bomb(lambda: f"[{'a,' * 4_000_000}]", codes.TOO_LARGE, "1:99980"),
    "3 many refused values": Bomb(lambda: f"[{'y,' * 4_000_000}]", codes.TOO_MANY, ""),
    "5 8 million digits in base 60": Bomb(
        lambda: f"a: 1{':1' * 3_000_000}", codes.NUMBER_SIZE, "1:4"
    ),
    "6 hex of 200,000 bits": Bomb(lambda: f"a: 0x{'f' * 50_000}", codes.NUMBER_SIZE, "1:4"),
    "6 4 million digits": Bomb(lambda: f"a: {'1_' * 4_000_000}", codes.NUMBER_SIZE, "1:4"),
    "7 billion laughs": Bomb(_laughs, codes.ALIAS_SIZE, "4:8"),
    "7 one anchor, a million aliases": Bomb(
        lambda: f"a: &a x\nb: [{'*a,' * 1_000_000}]\n", codes.ALIAS_SIZE, "2:3005"
    ),
    "8 merge keys": Bomb(_merges, codes.MERGE_KEY, "2:10"),
    "9 flow nesting of 5,000": Bomb(lambda: f"a: {'[' * 5_000}", codes.TOO_DEEP, "1:(35|1003)"),
    "9 flow nesting of 8 MB": Bomb(lambda: "{a: " * 2_000_000, codes.TOO_DEEP, "1:129"),
    "9 blocks of 8 MB": Bomb(lambda: "- " * 4_000_000, codes.TOO_DEEP, "1:65"),
    "10 an anchor inside itself": Bomb(lambda: "a: &a [*a, *a]", codes.ALIAS, "1:8"),
    "11 control characters": Bomb(lambda: "a\x01" * 4_000_000, codes.TOO_MANY, ""),
    "13 2,500 limits inherited by 1,000 scopes": Bomb(_inheritance, codes.TOO_LARGE, "2460:8"),
}
"""By the number of their kind in ``policy/loading/test_hostile_input.py``."""
