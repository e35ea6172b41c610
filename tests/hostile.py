"""Hostile policy texts, and checks that must hold for any text."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, get_args

from hypothesis import strategies as st

from ratectl.compiler.activation import activate
from ratectl.policy.bundle import decode_policies, digest, encode_policies
from ratectl.policy.codes import CODES
from ratectl.policy.format import format_text
from ratectl.policy.language.field_types import Across, Algorithm, Mode, OnError
from ratectl.policy.language.model import Cap, LimitFields, Policy
from ratectl.policy.read import load_checked

if TYPE_CHECKING:
    from ratectl.policy.loading.loader import Loaded

__all__ = ["KEYWORDS", "SEEDS", "check_anything", "load_text", "mutants"]

_ROOT: Final = Path(__file__).parent.parent
_GOOD: Final = sorted((_ROOT / "policies").rglob("*.yaml"))
SEEDS: Final = [*_GOOD, *sorted((_ROOT / "tests/invalid_policies").glob("*.yaml"))]
"""Good policies, and one file for each mistake that has a message."""

KEYWORDS: Final = sorted({
    *(f"{name}:" for of in (Policy, LimitFields, Cap) for name in of.model_fields),
    *(word for of in (Across, Algorithm, Mode, OnError) for word in get_args(of)),
    "apiVersion: ratectl/v1", "kind: Policy", "scope: /", "\n---\n", "...\n", "rate: 1/s", "/min",
    "/month", "10/7day", "0/s", "0.5/s", "unlimited", "Mon 06:00", "31 00:00 Europe/Berlin",
    "10.0.0.0/8", "::1", "null", "~", "yes", "true", "0x1F", "010", "1:30", "1e3", ".inf", ".nan",
    "999999999999999999", "<<: ", "&a ", "*a", "!!int ", "!", "%YAML 1.1\n", "? ", "- ", "|\n",
    ">-\n", "[", "]", "{", "}", "{a: ", "[[", ", ", "'", '"', "\\", '"\\ud800"', '"\\U00110000"',
    "#", "\t", "\r\n", "\r", "\0", "\ufeff", "\u202e", "\u2028", "\x85", "é", "🎈", "  ", "\n  ",
})  # fmt: skip
"""Words that random mutations would hardly produce: of the language and of YAML."""

_MAX_SECONDS: Final = 1.0
_SHOWN_PAST_END: Final = 2  # a caret may point behind the last character of its line


def load_text(text: str | bytes) -> Loaded:
    return load_checked(["-"], stdin=text.encode() if isinstance(text, str) else text)


def check_anything(data: bytes) -> Loaded:
    """Check that findings come quickly and in order, and that a tree without errors is usable."""
    loaded, seconds = _timed(data)
    if seconds > _MAX_SECONDS:  # slow at each attempt: otherwise only the machine was busy
        seconds = min(seconds, *(_timed(data)[1] for _ in range(2)))
        assert seconds <= _MAX_SECONDS, f"loading took {seconds:.1f} s"
    _check_findings(loaded)
    if loaded.ok:
        _check_tree(data, loaded)
    return loaded


def _timed(data: bytes) -> tuple[Loaded, float]:
    start = time.process_time()
    loaded = load_text(data)
    return loaded, time.process_time() - start


def _check_findings(loaded: Loaded) -> None:
    for found in loaded.diagnostics:
        assert found.code in CODES
        assert found.hint
        assert str(found).isprintable(), str(found)
        assert "Input should" not in str(found), "every kind of error has its own message"
        span = found.span
        if span.line == 0:
            assert (span.column, span.end_column) == (0, 0)
            continue
        lines = loaded.texts[span.file]
        assert 1 <= span.line <= len(lines), str(found)
        assert 1 <= span.column < span.end_column, str(found)
        assert span.end_column <= len(lines[span.line - 1]) + _SHOWN_PAST_END, str(found)


def _check_tree(data: bytes, loaded: Loaded) -> None:
    bundle = encode_policies(loaded.tree)
    assert decode_policies(bundle).policies == loaded.tree.policies
    assert encode_policies(decode_policies(bundle)) == bundle
    activate(bundle, digest(bundle), 1)
    formatted = format_text(data.decode("utf-8-sig"))
    again = load_text(formatted.text)
    assert again.ok, [str(found) for found in again.diagnostics]
    assert encode_policies(again.tree) == bundle
    assert format_text(formatted.text).text == formatted.text


_SEED: Final = (st.sampled_from(_GOOD) | st.sampled_from(SEEDS)).map(Path.read_bytes)


@st.composite
def mutants(draw: st.DrawFn) -> bytes:
    """Draw a seed with a few parts removed, doubled, replaced or inserted."""
    text = bytearray(draw(_SEED))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(text)))
        end = min(len(text), at + draw(st.integers(0, 40)))
        kind = draw(st.sampled_from(("word", "word", "byte", "cut", "copy", "join")))
        if kind == "word":
            text[at : draw(st.sampled_from((at, end)))] = draw(st.sampled_from(KEYWORDS)).encode()
        elif kind == "byte":
            text[at : at + 1] = draw(st.binary(min_size=1, max_size=2))
        elif kind == "cut":
            del text[at:end]
        elif kind == "copy":
            text[at:at] = text[at:end] * draw(st.sampled_from((1, 2, 50)))
        else:
            text += b"\n---\n" + draw(_SEED)
    return bytes(text)
