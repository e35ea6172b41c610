"""Checks of an agent's arguments: an empty one is an error, never the working directory."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from ratectl.agent.counter_secret import CounterSecret
from ratectl.errors import UsageError
from ratectl.runtime.files import named_path
from ratectl.runtime.urls import shown
from ratectl.stores.registry import BACKENDS, in_one_process

__all__ = [
    "counters_of", "default_state_dir", "environment_of", "id_of", "keys_of", "source_of",
    "state_dir_of",
]  # fmt: skip

_ID: Final = re.compile(r"[A-Za-z0-9._~-]{1,128}")
_LIKE_A_URL: Final = re.compile(
    f"(?:{'|'.join(scheme for backend in BACKENDS for scheme in backend.schemes)}):", re.IGNORECASE
)
_FORMS: Final = (
    "a store's URL, like etcd://host:2379/prod or sqlite:////var/lib/rates.db, or a directory of "
    "policies"
)


def source_of(given: object) -> str:
    """Return the source as a store's URL, or as the absolute path of a directory.

    A URL is checked further when the store is opened.

    :raises UsageError: it is neither.
    """
    if isinstance(given, str) and not given.strip():
        raise UsageError(f"source is empty: name {_FORMS}")
    if isinstance(given, str) and "://" in given:
        return given
    if isinstance(given, str | Path) and _LIKE_A_URL.match(str(given)):
        raise UsageError(f"source {shown(str(given))!r} is not {_FORMS}")
    path = named_path("source", given)
    # Absolute from the start: a later chdir must not lead to another directory.
    return os.path.abspath(path)  # noqa: PTH100 - keeps links


def id_of(given: object) -> str | None:
    """Return the given id; None if the agent has to make one up.

    :raises UsageError: it is empty, too long, or has characters that an id must not have.
    """
    if given is None or (isinstance(given, str) and _ID.fullmatch(given)):
        return given
    raise UsageError(
        f"id {given!r} has to be 1 to 128 letters, digits, '.', '_', '~' and '-'; leave it out, "
        "and the agent makes one"
    )


def state_dir_of(given: object) -> Path:
    """Return the absolute path of the state directory, which need not exist.

    :raises UsageError: it is empty or no path, or there is no default.
    """
    if given is None:
        return default_state_dir()
    return Path(os.path.abspath(named_path("state_dir", given)))  # noqa: PTH100 - keeps links


def default_state_dir() -> Path:
    """Return ``$XDG_STATE_HOME/ratectl``, or ``~/.local/state/ratectl``.

    A relative ``$XDG_STATE_HOME`` is ignored, as its specification requires.

    :raises UsageError: there is no home directory.
    """
    base = os.environ.get("XDG_STATE_HOME")
    if base and Path(base).is_absolute():
        return Path(base) / "ratectl"
    try:
        home = Path.home()
    except RuntimeError:
        raise UsageError(
            "there is no home directory to keep state in: name a state directory, or set "
            "XDG_STATE_HOME or HOME"
        ) from None
    return home.absolute() / ".local" / "state" / "ratectl"


def counters_of(
    keep: bool, source: object, state_dir: Path, stable_keys: bytes | None
) -> CounterSecret | None:
    """Return the secret of keys whose buckets outlive the process; None if none do.

    :raises UsageError: the source has no state that outlives the process.
    """
    if not keep:
        return None
    if not isinstance(source, str) or "://" not in source or in_one_process(source):
        raise UsageError(
            "keep_counters needs a store that other processes can open, like etcd:// or sqlite://"
        )
    return CounterSecret.of(state_dir) if stable_keys is None else CounterSecret(stable_keys)


def keys_of(given: object) -> list[str | os.PathLike[str]] | None:
    """Return the files of public keys; None if heads need no signature.

    :raises UsageError: it is no list of paths.
    """
    if given is None:
        return None
    if isinstance(given, str | bytes | os.PathLike) or not isinstance(given, Iterable):
        raise UsageError("public_keys is a list of files: write [FILE], also for a single one")
    files = list(given)
    wrong = [type(file).__name__ for file in files if not isinstance(file, str | os.PathLike)]
    if wrong:
        raise UsageError(f"a file of public_keys is a path: write a text or a Path, not {wrong[0]}")
    return files


def environment_of(given: object) -> str | None:
    """Return the given environment; None if it is not known beforehand.

    :raises UsageError: it is not a string.
    """
    if given is None or isinstance(given, str):
        return given
    raise UsageError(f"environment is a text, not {type(given).__name__}")
