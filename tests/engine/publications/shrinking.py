"""Cut a story that fails down to what it needs, and write it so that a person can replay it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pprint import pformat
from typing import TYPE_CHECKING, Any

from engine.publications.playing import Failure, Player, Story

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from engine.engines import MakeEngine
    from engine.publications.playing import Step
    from engine.publications.resolving import Documents

TRIES = 800
"""Replays after which the story is printed as it is."""


def failure(make: MakeEngine, story: Story) -> Failure | None:
    """Return how a story fails on an engine; a story without a sense does not."""
    try:
        Player(make, story).play()
    except Failure as found:
        return found
    except (ValueError, KeyError, IndexError, AttributeError):
        return None  # cut too far: documents that are no policies, no publication at first
    return None


def shrunk(make: MakeEngine, story: Story) -> Story:
    """Drop steps, then overrides, scopes and limits, one after another, while the story fails."""
    found, tries = failure(make, story), 0
    player = Player(make, story)
    with suppress(Failure):
        player.play()
    story = replace(story, steps=story.steps[: player.position])

    def fails(shorter: Story) -> bool:
        nonlocal tries
        tries += 1
        return tries < TRIES and type(failure(make, shorter)) is type(found)

    before = None
    while story != before and tries < TRIES:
        before = story
        story = _without_steps(story, fails)
        for shorter in _simpler(story):
            story = _all_that_fail(story, shorter, fails)
    return story


def _without_steps(story: Story, fails: Callable[[Story], bool]) -> Story:
    size = len(story.steps) // 2
    while size:
        at = 1
        while at < len(story.steps):
            shorter = replace(story, steps=story.steps[:at] + story.steps[at + size :])
            if fails(shorter):
                story = shorter
            else:
                at += size
        size //= 2
    return story


def _all_that_fail(
    story: Story, change: Callable[[Story], Story], fails: Callable[[Story], bool]
) -> Story:
    simpler = change(story)
    return simpler if simpler != story and fails(simpler) else story


def _simpler(story: Story) -> Iterator[Callable[[Story], Story]]:
    """Yield changes that make every document of the story smaller, or a step."""
    published = [step for step in story.steps if step[0] == "publish"]
    for scope in {scope for step in published for scope in step[2]} - {"/"}:
        yield lambda of, scope=scope: _documents(of, lambda docs: _less(docs, scope))
    for step in published:
        for scope, document in step[2].items():
            for part, named in document.items():
                for name in [each["name"] if part == "overrides" else each for each in named]:
                    yield lambda of, path=(scope, part, name): _documents(
                        of, lambda docs: _without(docs, *path)
                    )
    yield lambda of: replace(of, max_buckets=None)
    yield lambda of: replace(
        of, steps=tuple((*step[:3], []) if step[0] == "publish" else step for step in of.steps)
    )
    for at, step in enumerate(story.steps):
        if step[0] == "drain":
            for cost in (1, 2, 5, 20):
                yield lambda of, at=at, new=("ask", step[1], cost): _with(of, at, new)
        if step[0] == "ask" and step[2] > 1:
            yield lambda of, at=at, new=("ask", step[1], 1): _with(of, at, new)


def _with(story: Story, at: int, step: Step) -> Story:
    return replace(story, steps=(*story.steps[:at], step, *story.steps[at + 1 :]))


def _documents(story: Story, change: Callable[[Documents], Documents]) -> Story:
    steps = [
        (*step[:2], change(step[2]), *step[3:]) if step[0] == "publish" else step
        for step in story.steps
    ]
    return replace(story, steps=tuple(steps))


def _less(mapping: dict[str, Any], name: str) -> dict[str, Any]:
    return {each: value for each, value in mapping.items() if each != name}


def _without(documents: Documents, scope: str, part: str, name: str) -> Documents:
    if part not in documents.get(scope, {}):
        return documents
    named = documents[scope][part]
    if part == "overrides":
        fewer: Any = [each for each in named if each["name"] != name]
    elif part == "unset":
        fewer = [each for each in named if each != name]
    else:
        fewer = _less(named, name)
    return {**documents, scope: {**documents[scope], part: fewer}}


def written(story: Story, found: Failure) -> str:
    """Return a story as Python that replays it."""
    asked = {step[1] for step in story.steps if step[0] in ("ask", "drain")}
    told = [f"{type(found).__name__}: {found}", "", "Story("]
    told += ["    requests=("]
    for number, request in enumerate(story.requests):
        told.append(f"        Request{tuple(request)},{'' if number in asked else '  # unused'}")
    told += ["    ),", "    steps=("]
    for step in story.steps:
        lines = pformat(step, width=150, sort_dicts=False).splitlines()
        told += [f"        {line}" for line in lines[:-1]] + [f"        {lines[-1]},"]
    told += ["    ),", f"    max_buckets={story.max_buckets},", ")"]
    return "\n".join(told)
