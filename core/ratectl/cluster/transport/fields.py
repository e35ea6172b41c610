"""Strict checks of the fields of a message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from ratectl.cluster.transport.frames import FrameError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = [
    "FLAG", "FLAT", "FLAT_OR_NULL", "LARGEST", "LONGEST", "MOST_ENTRIES", "NUMBER",
    "NUMBER_OR_NULL", "TEXT", "Form", "Shape", "unique",
]  # fmt: skip

T = TypeVar("T")

LARGEST: Final = 10**48
"""Largest number in a message: 10²⁴ tokens in grains."""
LONGEST: Final = 8_192
"""Most characters of a text."""
MOST_ENTRIES: Final = 32_768
"""Most entries of one field."""


class Form(NamedTuple):
    """Types that a field may have, in the program and in words."""

    types: tuple[type, ...]
    """The usual one first. A type stands for itself alone: bool is no int."""
    told: str


NUMBER: Final = Form((int,), "a whole number from 0 to 10^48")
NUMBER_OR_NULL: Final = Form((type(None), int), "a whole number from 0 to 10^48 or null")
TEXT: Final = Form((str,), f"a text of at most {LONGEST} characters")
FLAG: Final = Form((bool,), "true or false")
FLAT: Final = Form((list,), "an array")
FLAT_OR_NULL: Final = Form((type(None), list), "an array or null")


def _in_bounds(values: Iterable[Any]) -> bool:
    """Return True if no number is negative or too large, and no text too long."""
    for value in values:
        kind = type(value)
        if kind is int:
            if not 0 <= value <= LARGEST:
                return False
        elif kind is str and len(value) > LONGEST:
            return False
    return True


class Shape:
    """Names and forms of the fields of a message, or of its entries."""

    def __init__(self, what: str, **forms: Form) -> None:
        self.what = what
        self._forms = tuple(forms.items())
        self._usual = [form.types[0] for form in forms.values()]
        self._width = len(forms)

    def check(self, fields: list[Any]) -> list[Any]:
        """Return the fields that a message must have, without more that it has.

        :raises FrameError: a field is missing, or not what it should be.
        """
        if len(fields) < self._width:
            missing = self._forms[len(fields)][0]
            raise FrameError(f"{self.what}: the field {missing} is missing")
        del fields[self._width :]
        if list(map(type, fields)) != self._usual or not _in_bounds(fields):
            self._check_each(fields)
        return fields

    def rows(self, flat: list[Any]) -> Iterator[tuple[Any, ...]]:
        """Return entries, whose fields stand one after the other in an array.

        :raises FrameError: there are too many, or a field is not what it should be.
        """
        count, rest = divmod(len(flat), self._width)
        if rest or count > MOST_ENTRIES:
            raise FrameError(
                f"{self.what}: {len(flat)} fields: each entry has {self._width}, and at most "
                f"{MOST_ENTRIES} entries are possible"
            )
        if list(map(type, flat)) != self._usual * count or not _in_bounds(flat):
            for begin in range(0, len(flat), self._width):
                self._check_each(flat[begin : begin + self._width])
        return zip(*[iter(flat)] * self._width, strict=True)

    def _check_each(self, values: list[Any]) -> None:
        for value, (name, form) in zip(values, self._forms, strict=True):
            if type(value) not in form.types or not _in_bounds((value,)):
                raise FrameError(f"{self.what}: {name} is not {form.told}")


def unique(what: str, entries: list[tuple[str, T]]) -> dict[str, T]:
    """Return entries by name.

    :raises FrameError: a name is there twice.
    """
    found = dict(entries)
    if len(found) != len(entries):
        raise FrameError(f"{what}: a limit is there twice")
    return found
