"""A configuration in both meanings: imported into ratectl, and in the reference."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import yaml

from moving.envoy_reference import Reference
from ratectl import Agent, FakeClock
from ratectl.moving.envoy_files import read_files
from ratectl.moving.envoy_import import MAPPING, import_files
from ratectl.sidecar.mapping import EnvoyMapping
from ratectl.sidecar.mapping_file import parse_mapping
from ratectl.sidecar.messages import Descriptor, Request
from ratectl.sidecar.service import RateLimitService

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from moving.envoy_reference import Asked

__all__ = ["Both", "both", "imported", "serving", "written"]

OK: Final = 1


def written(folder: Path, *configs: dict[str, Any]) -> Path:
    """Write configurations to a folder, one file for each."""
    folder.mkdir(exist_ok=True)
    for number, config in enumerate(configs):
        text = yaml.dump(config, Dumper=_Plain, allow_unicode=True, sort_keys=False)
        folder.joinpath(f"{number}.yaml").write_text(text, encoding="utf-8")
    return folder


def imported(folder: Path, **options: Any) -> dict[str, str]:
    """Return the files that an import makes."""
    return import_files(read_files([folder]), **options).files


@contextmanager
def serving(files: Mapping[str, str], clock: FakeClock) -> Iterator[RateLimitService]:
    """Yield a service with imported policies and their mapping."""
    policies = [text for name, text in files.items() if name != MAPPING]
    text = "\n---\n".join(policies) or "apiVersion: ratectl/v1\nscope: /none\n"
    mapping = EnvoyMapping(parse_mapping(files[MAPPING].encode(), MAPPING)[0])
    with Agent.from_policies(text, clock=clock) as agent:
        yield RateLimitService(agent, mapping)


class _Plain(yaml.SafeDumper):
    """Writer without aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


class Both:
    """A service of ratectl and the reference, asked the same at the same time."""

    def __init__(self, ours: RateLimitService, theirs: Reference, clock: FakeClock) -> None:
        self._ours = ours
        self._theirs = theirs
        self._clock = clock

    def decide(self, domain: str, *asked: Asked) -> tuple[bool, bool]:
        """Return our decision, and theirs."""
        descriptors = [Descriptor(each.entries, each.hits) for each in asked]
        ours = self._ours.answer(Request(domain, tuple(descriptors)))
        now = self._clock.time_ns() // 10**9
        return ours.code == OK, self._theirs.admits(domain, list(asked), now)


@contextmanager
def both(
    folder: Path, configs: Sequence[dict[str, Any]], clock: FakeClock, *, stops: bool = False
) -> Iterator[Both]:
    """Yield both meanings of configurations."""
    theirs = Reference({config["domain"]: config for config in configs}, stops)
    with serving(imported(written(folder, *configs)), clock) as ours:
        yield Both(ours, theirs, clock)
