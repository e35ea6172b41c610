"""Where an environment's keys are in etcd: ``/ratectl/<environment>/<key>``."""

from __future__ import annotations

from dataclasses import dataclass

from ratectl.stores.arguments import encode_key, encode_prefix

__all__ = ["Keys", "range_end"]


@dataclass(frozen=True, slots=True)
class Keys:
    """The mapping for one environment."""

    environment: str

    @property
    def prefix(self) -> bytes:
        """What every key of the environment starts with."""
        return f"/ratectl/{self.environment}/".encode()

    def key(self, key: str) -> bytes:
        """A key as etcd holds it.

        :raises UsageError: it is empty or not encodable.
        """
        return self.prefix + encode_key(key)

    def below(self, prefix: str) -> bytes:
        """A key prefix (possibly empty) as etcd holds it.

        :raises UsageError: it is not encodable.
        """
        return self.prefix + encode_prefix(prefix)

    def decode(self, key: bytes) -> str:
        """A key as ratectl knows it; what somebody else wrote may be any bytes."""
        return key[len(self.prefix) :].decode("utf-8", "backslashreplace")


def range_end(prefix: bytes) -> bytes:
    """The end of the range of all keys that start with ``prefix`` (never all 0xff here)."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1])
