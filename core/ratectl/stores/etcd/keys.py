"""Keys of an environment in etcd: ``/ratectl/<environment>/<key>``."""

from __future__ import annotations

from dataclasses import dataclass

from ratectl.stores.arguments import encode_key, encode_prefix

__all__ = ["Keys", "range_end"]


@dataclass(frozen=True, slots=True)
class Keys:
    """Translation between ratectl's keys and etcd's, for one environment."""

    environment: str

    @property
    def prefix(self) -> bytes:
        """Prefix of every key of the environment."""
        return f"/ratectl/{self.environment}/".encode()

    def key(self, key: str) -> bytes:
        """Return a key as etcd holds it.

        :raises UsageError: it is empty or not encodable.
        """
        return self.prefix + encode_key(key)

    def below(self, prefix: str) -> bytes:
        """Return a key prefix (possibly empty) as etcd holds it.

        :raises UsageError: it is not encodable.
        """
        return self.prefix + encode_prefix(prefix)

    def decode(self, key: bytes) -> str:
        """Return a key as ratectl knows it. Bytes that are not UTF-8 are escaped."""
        return key[len(self.prefix) :].decode("utf-8", "backslashreplace")


def range_end(prefix: bytes) -> bytes:
    """Return the end of the range of keys that start with ``prefix`` (not 0xff alone)."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1])
