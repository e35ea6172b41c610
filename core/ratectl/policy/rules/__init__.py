"""Pages about the codes of ``codes.CODES``: meaning, reason, a wrong and a right example.

A page is ``<code>.md`` beside this file::

    What the finding means.

    ## Why

    Why it matters.

    ## Wrong        optional: some findings cannot be shown as text
    ```yaml …
    ## Right
    ```yaml …

The title is in ``codes``. A test runs every example.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources
from typing import Final

from ratectl.policy.codes import CODES

__all__ = ["RulePage", "family", "page", "page_codes"]

_FAMILIES: Final = {
    "1": "syntax",
    "2": "semantics",
    "3": "lint",
    "4": "tests",
    "5": "sets",
    "6": "moving",
}
_SECTION: Final = re.compile(r"^## (\w+)\n", re.MULTILINE)
_FENCE: Final = re.compile(r"```yaml\n(.*?)```", re.DOTALL)


@dataclass(frozen=True, slots=True)
class RulePage:
    """Page about one code."""

    code: str
    title: str
    meaning: str
    why: str
    wrong: str
    """Markdown: an example, or a description of one."""
    right: str

    @property
    def bad(self) -> str | None:
        """Policy that has this finding and no other; None if none can be shown."""
        return _example(self.wrong)

    @property
    def good(self) -> str | None:
        """The policy without the finding; None if none can be shown."""
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
        """The whole page without Markdown and without the title."""
        parts = [self.meaning, self.why]
        parts += [f"{name}:\n\n{_unfenced(text)}" for name, text in self.examples if text]
        return "\n\n".join(parts) + "\n"

    @property
    def examples(self) -> tuple[tuple[str, str], ...]:
        """Titles and texts of the last two sections."""
        return (("Wrong", self.wrong), ("Right", self.right))


def family(code: str) -> str:
    """Return the kind of finding: ``syntax``, ``semantics``, ``lint``, ``tests`` or ``sets``."""
    return _FAMILIES.get(code[2:3], "other")


def page_codes() -> tuple[str, ...]:
    """Return the codes that have a page, known or not."""
    names = [entry.name for entry in resources.files(__name__).iterdir()]
    return tuple(sorted(name.removesuffix(".md") for name in names if name.endswith(".md")))


def page(code: str) -> RulePage | None:
    """Return the page of a code; None if it has none."""
    file = resources.files(__name__) / f"{code}.md"
    if code not in CODES or not file.is_file():
        return None
    meaning, *rest = _SECTION.split(file.read_text(encoding="utf-8"))
    sections = dict(zip(rest[::2], rest[1::2], strict=True))
    texts = {name: text.strip() for name, text in sections.items()}
    return RulePage(
        code,
        CODES[code],
        meaning.strip(),
        texts.get("Why", ""),
        texts.get("Wrong", ""),
        texts.get("Right", ""),
    )


def _example(section: str) -> str | None:
    match = _FENCE.search(section)
    return match[1] if match else None


def _unfenced(section: str) -> str:
    """Return the section with fenced text indented instead."""

    def indented(match: re.Match[str]) -> str:
        return "".join(f"  {line}".rstrip() + "\n" for line in match[1].splitlines())

    return re.sub(r"```\w*\n(.*?)```", indented, section, flags=re.DOTALL).rstrip()
