"""A page for each code of ``codes.CODES``: what it means, why it matters, wrong and right.

A page is ``<code>.md`` beside this file::

    What the finding means.

    ## Why

    Why it matters.

    ## Wrong        optional: some findings are not about text that could be shown
    ```yaml …
    ## Right
    ```yaml …

Its title is the code's line in ``codes``. A test runs every example.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources
from typing import Final

from ratectl.policy.codes import CODES

__all__ = ["RulePage", "family", "page", "page_codes"]

_FAMILIES: Final = {"1": "syntax", "2": "semantics", "3": "lint", "4": "tests", "5": "sets"}
_SECTION: Final = re.compile(r"^## (\w+)\n", re.MULTILINE)
_FENCE: Final = re.compile(r"```yaml\n(.*?)```", re.DOTALL)


@dataclass(frozen=True, slots=True)
class RulePage:
    """What there is to know about one code."""

    code: str
    title: str
    meaning: str
    why: str
    wrong: str
    """Markdown: an example of it, or the words that stand for one."""
    right: str

    @property
    def bad(self) -> str | None:
        """The policy that has this finding and no other; None where none can be shown."""
        return _example(self.wrong)

    @property
    def good(self) -> str | None:
        """The same policy, mended."""
        return _example(self.right)

    @property
    def markdown(self) -> str:
        """The whole page."""
        parts = [f"# {self.code}: {self.title}", self.meaning]
        sections = (("Why", self.why), ("Wrong", self.wrong), ("Right", self.right))
        parts += [f"## {name}\n\n{text}" for name, text in sections if text]
        return "\n\n".join(parts) + "\n"

    @property
    def text(self) -> str:
        """The whole page without Markdown, but for its title."""
        parts = [self.meaning, self.why]
        parts += [f"{name}:\n\n{_unfenced(text)}" for name, text in self.examples if text]
        return "\n\n".join(parts) + "\n"

    @property
    def examples(self) -> tuple[tuple[str, str], ...]:
        """The two last sections and what they are called."""
        return (("Wrong", self.wrong), ("Right", self.right))


def family(code: str) -> str:
    """What kind of finding it is: ``syntax``, ``semantics``, ``lint`` or ``tests``."""
    return _FAMILIES.get(code[2:3], "other")


def page_codes() -> tuple[str, ...]:
    """The codes that have a page, whether they are known or not."""
    names = [entry.name for entry in resources.files(__name__).iterdir()]
    return tuple(sorted(name.removesuffix(".md") for name in names if name.endswith(".md")))


def page(code: str) -> RulePage | None:
    """The page of a code; None where it has none."""
    file = resources.files(__name__) / f"{code}.md"
    if code not in CODES or not file.is_file():
        return None
    meaning, *rest = _SECTION.split(file.read_text(encoding="utf-8"))
    sections = dict(zip(rest[::2], rest[1::2], strict=True))
    said = {name: text.strip() for name, text in sections.items()}
    return RulePage(
        code,
        CODES[code],
        meaning.strip(),
        said.get("Why", ""),
        said.get("Wrong", ""),
        said.get("Right", ""),
    )


def _example(section: str) -> str | None:
    match = _FENCE.search(section)
    return match[1] if match else None


def _unfenced(section: str) -> str:
    """Fenced text indented instead."""

    def indented(match: re.Match[str]) -> str:
        return "".join(f"  {line}".rstrip() + "\n" for line in match[1].splitlines())

    return re.sub(r"```\w*\n(.*?)```", indented, section, flags=re.DOTALL).rstrip()
