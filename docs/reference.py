"""Pages of the reference, written from the models, the rules and the commands."""

from __future__ import annotations

import io
import json
import re
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any, Final

import yaml

from ratectl.policy.codes import CODES
from ratectl.policy.language.kinds import KINDS
from ratectl.policy.language.schema import policy_schema
from ratectl.policy.rules import page
from ratectl_cli.app import COMMANDS, run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["write"]

TITLES: Final = {
    "LimitFields": "Fields of a limit or budget",
    "Cap": "Fields of a cap",
    "Override": "Fields of an override",
    "Step": "Fields of a step",
    "Expectation": "Fields of `expect`",
    "Effective": "Fields of `effective`",
    "BudgetInForce": "Fields of a budget in `effective`",
}
"""Models inside documents, and the titles of their tables."""


def write(folder: Path) -> None:
    """Write all pages to a folder."""
    folder.mkdir(exist_ok=True)
    pages = {"fields": _fields, "rules": _rules, "commands": _commands, "topics": _topics}
    for name, lines in pages.items():
        text = "\n".join(lines()) + "\n"
        path = folder / f"{name}.md"
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, encoding="utf-8")


# Fields -----------------------------------------------------------------------------------------


def _fields() -> Iterator[str]:
    yield "# Fields of policies"
    yield ""
    yield "Every field of every kind of document. The scopes below a scope inherit its limits."
    seen: set[str] = set()
    for kind in KINDS:
        schema = policy_schema(kind)
        yield from ("", f"## `kind: {kind}`", "", str(schema.get("description", "")))
        yield from _table(schema)
        for name, model in schema.get("definitions", {}).items():
            if name in TITLES and name not in seen:
                seen.add(name)
                yield from ("", f"### {TITLES[name]}", "", str(model.get("description", "")))
                yield from _table(model)


def _table(model: Mapping[str, Any]) -> Iterator[str]:
    yield from ("", "| field | type | meaning | example | rules |", "|---|---|---|---|---|")
    required = set(model.get("required", []))
    for name, field in model["properties"].items():
        must = ", required" if name in required else ""
        examples = field.get("examples") or []
        example = f"`{_written(name, examples[0])}`" if examples else ""
        cells = (f"`{name}`", _type(field) + must, field.get("description", ""), example)
        rules = " ".join(f"[{code}](rules.md#{code.lower()})" for code in _rules_of(name))
        yield "| " + " | ".join(_cell(cell) for cell in (*cells, rules)) + " |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _written(name: str, example: object) -> str:
    text = yaml.safe_dump({name: example}, default_flow_style=True, sort_keys=False, width=1000)
    return text.strip()[1:-1]


def _type(field: Mapping[str, Any]) -> str:
    forms = field.get("anyOf") or field.get("allOf") or [field]
    names = dict.fromkeys(filter(None, map(_form, forms)))
    return " or ".join(names) or "text"


def _form(form: Mapping[str, Any]) -> str:
    if "enum" in form:
        return ", ".join(f"`{value}`" for value in form["enum"])
    if "const" in form:
        return f"`{form['const']}`"
    if "$ref" in form or form.get("type") == "object":
        return "mapping"
    if form.get("type") == "array":
        return "list"
    return {"string": "text", "integer": "number", "boolean": "true or false"}.get(
        str(form.get("type")), ""
    )


def _rules_of(field: str) -> list[str]:
    """Return the rules whose meaning names a field."""
    return [code for code in CODES if re.search(rf"`{field}[`:]", _meaning(code))]


def _meaning(code: str) -> str:
    found = page(code)
    return "" if found is None else f"{found.meaning} {found.why}"


# Rules, commands, topics ------------------------------------------------------------------------


def _rules() -> Iterator[str]:
    yield "# Rules"
    yield ""
    yield "What `ratectl validate` reports. `ratectl rule CODE` prints one page."
    for code, title in CODES.items():
        found = page(code)
        assert found is not None
        yield from ("", f"## {code}", "", f"**{title[0].upper()}{title[1:]}.**", "")
        yield re.sub(r"^(#+) ", r"##\1 ", found.markdown, flags=re.MULTILINE).rstrip()


def _commands() -> Iterator[str]:
    yield "# Commands"
    for words in _all_commands():
        yield from ("", f"## ratectl {' '.join(words)}", "", "```text")
        yield _printed("help", *words).rstrip()
        yield "```"


def _all_commands() -> Iterator[tuple[str, ...]]:
    """Yield every command, and after a group its commands."""
    for name in COMMANDS:
        yield (name,)
        listed = re.search(r"^Commands:\n((?:  .*\n|\n)*)", _printed("help", name), re.MULTILINE)
        for inner in re.findall(r"^  ([a-z]+)  ", listed[1], re.MULTILINE) if listed else ():
            yield (name, inner)


def _topics() -> Iterator[str]:
    yield "# Exit codes, variables, options"
    for topic in json.loads(_printed("help", "-o", "json"))["topics"]:
        title, _, text = _printed("help", topic["name"]).partition("\n")
        yield from ("", f"## {title}", "", "```text", text.strip("\n"), "```")


def _printed(*words: str) -> str:
    """Return what a command prints."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    with redirect_stdout(out):
        code = run([*words, "--color", "never"])
    assert code == 0, words
    return out.buffer.getvalue().decode()  # type: ignore[attr-defined]
