"""Rules for a Dockerfile: some of hadolint, with its codes, and our own."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Instruction", "copied", "dockerfile_findings", "instructions"]

_KNOWN = {"ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "FROM", "LABEL", "RUN", "USER", "WORKDIR"}
_SECRET = re.compile(r"(?i)password|secret|token|credential|api_?key")


class Instruction(NamedTuple):
    """One instruction, its continued lines joined."""

    name: str
    value: str


def instructions(text: str) -> list[Instruction]:
    """Return the instructions of a Dockerfile in order."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    pairs = (line.partition(" ") for line in joined.splitlines())
    return [Instruction(name.upper(), value.strip()) for name, _, value in pairs]


def copied(text: str) -> list[str]:
    """Return the paths that are copied from the build context."""
    sources = []
    for name, value in instructions(text):
        words = [word for word in value.split() if not word.startswith("--")]
        if name == "COPY" and "--from=" not in value:
            sources += words[:-1]
    return sources


def dockerfile_findings(text: str) -> Iterator[str]:
    """Return the findings about a Dockerfile."""
    found = instructions(text)
    if found[0].name not in ("FROM", "ARG"):
        yield "DL3061: it does not begin with FROM"
    for each in found:
        yield from _instruction_findings(each)
    stages = [at for at, each in enumerate(found) if each.name == "FROM"]
    if len(stages) < 2:
        yield "one stage: what builds is in what runs"
        return
    yield from _stage_findings(found[stages[-1] :])


def _instruction_findings(each: Instruction) -> Iterator[str]:
    name, value = each
    if name == "ADD":
        yield "DL3020: COPY copies; ADD fetches and unpacks"
    elif name == "MAINTAINER":
        yield "DL4000: MAINTAINER is deprecated"
    elif name not in _KNOWN:
        yield f"DL1000: {name} is no instruction that is used here"
    elif name == "FROM":
        yield from _base_findings(value)
    elif name == "RUN":
        yield from _run_findings(value)
    elif name in ("ENV", "ARG") and _SECRET.search(value):
        yield f"a secret stays in the image: {value.partition('=')[0]}"
    elif name == "WORKDIR" and not value.startswith("/"):
        yield "DL3000: WORKDIR is relative"
    elif name in ("ENTRYPOINT", "CMD"):
        try:
            json.loads(value)
        except ValueError:
            yield f"DL3025: {name} goes through a shell"


def _base_findings(value: str) -> Iterator[str]:
    tag = value.split(maxsplit=1)[0].rpartition("/")[2].partition(":")[2]
    if not tag:
        yield f"DL3006: {value} has no tag"
    elif tag == "latest":
        yield f"DL3007: {value} is another one tomorrow"


def _run_findings(value: str) -> Iterator[str]:
    if re.search(r"\bsudo\b", value):
        yield "DL3004: sudo"
    if "pip install" in value and "--no-cache-dir" not in value:
        yield "DL3042: pip keeps a cache"
    if re.search(r"\bapt (install|update)", value):
        yield "DL3027: apt is for people: apt-get"
    if re.search(r"\b(curl|wget)\b.*\|\s*(ba)?sh", value):
        yield "it runs what it downloads"
    if "apt-get update" in value and "apt-get install" not in value:
        yield "DL3009: the lists of packages age in a layer of their own"
    asked = re.search(r"apt-get install ([^&;|]*)", value)
    if asked:
        yield from _apt_findings(value, asked[1].split())


def _apt_findings(value: str, words: list[str]) -> Iterator[str]:
    if "--no-install-recommends" not in words:
        yield "DL3015: what is recommended is installed as well"
    if "-y" not in words:
        yield "DL3014: apt-get would ask"
    if "rm -rf /var/lib/apt/lists/*" not in value:
        yield "DL3009: the lists of packages stay in the image"
    if not value.startswith("apt-get update"):
        yield "the lists of packages may be old"
    for word in words:
        if not word.startswith("-") and "=" not in word:
            yield f"DL3008: {word} has no version"


def _stage_findings(stage: list[Instruction]) -> Iterator[str]:
    """Return the findings about the stage that runs."""
    if "slim" not in stage[0].value:
        yield "what runs is not slim"
    for each in stage:
        if each.name == "COPY" and "--chown=" not in each.value:
            yield "whose files are these? --chown says"
    users = [each.value for each in stage if each.name == "USER"]
    if not users or users[-1].partition(":")[0] in ("root", "0"):
        yield "DL3002: it runs as root"
    elif not users[-1].partition(":")[0].isdecimal():
        yield "Kubernetes sees only of a number that it is not root"
    after = [each.name for each in stage[_last(stage, "USER") :]]
    if users and {"RUN", "COPY"} & set(after):
        yield "what comes after USER belongs to who runs"
    if Instruction("ENTRYPOINT", '["ratectl"]') not in stage:
        yield "it does not run ratectl"
    for name in ("ENTRYPOINT", "CMD"):
        if [each.name for each in stage].count(name) > 1:
            yield f"DL4003: the last {name} wins"


def _last(stage: list[Instruction], name: str) -> int:
    return max((at for at, each in enumerate(stage) if each.name == name), default=0)
