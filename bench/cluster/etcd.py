"""Members that reach each other over TLS and slow connections, and what they write to etcd."""

from __future__ import annotations

import base64
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import trustme

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from etcd_server import EtcdServer, free_port

if TYPE_CHECKING:
    from bench.cluster.proxy import SlowProxies

__all__ = ["Written", "variables_of_members", "written"]


class Written(NamedTuple):
    """Writes that etcd has seen until an instant."""

    at: float
    """Seconds of the monotonic clock."""
    roster: int
    """Of entries of members, and of owners."""
    all: int
    """Also of agents that report their generation and their usage."""

    def per_second(self, before: Written) -> tuple[float, float]:
        """Return writes a second of the roster, and all, since an earlier instant."""
        seconds = self.at - before.at
        return (self.roster - before.roster) / seconds, (self.all - before.all) / seconds


def written(server: EtcdServer, environment: str) -> Written:
    """Read how often each entry that exists was written, and the revision."""
    roster = 0
    for folder in ("members", "owners"):
        first = f"/ratectl/{environment}/{folder}/"
        words = {"key": first, "range_end": first[:-1] + chr(ord("/") + 1)}
        body = {name: base64.b64encode(word.encode()).decode() for name, word in words.items()}
        answer = server.call("/v3/kv/range", {**body, "keys_only": True})
        roster += sum(int(entry["version"]) for entry in answer.get("kvs", []))
    return Written(time.monotonic(), roster, server.revision())


def variables_of_members(folder: Path, count: int, proxies: SlowProxies) -> list[dict[str, str]]:
    """Return the environment of members that share a certificate. Peers reach them by proxies."""
    authority = trustme.CA()
    issued = authority.issue_cert("bench")
    files = {name: folder / f"{name}.pem" for name in ("CA", "CERT", "KEY")}
    authority.cert_pem.write_to_path(str(files["CA"]))
    issued.cert_chain_pems[0].write_to_path(str(files["CERT"]))
    issued.private_key_pem.write_to_path(str(files["KEY"]))
    variables = []
    for _ in range(count):
        port = free_port()
        variables.append(
            {f"RATECTL_CLUSTER_{name}": str(path) for name, path in files.items()}
            | {
                "RATECTL_CLUSTER_LISTEN": f"127.0.0.1:{port}",
                "RATECTL_CLUSTER_ADDRESS": f"127.0.0.1:{proxies.before(port)}",
            }
        )
    return variables
