"""A bare grpc-go server to compare the sidecar with, built from Debian's packages.

``golang-go``, ``golang-google-grpc-dev`` and ``golang-golang-x-time-dev``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import ratectl.sidecar

__all__ = ["built"]

_SOURCES: Final = Path("/usr/share/gocode")
_PROTO: Final = Path(ratectl.sidecar.__file__).parent / "rls.proto"


def built(folder: Path) -> Path | None:
    """Build the server in a folder; None if a package is missing.

    :raises subprocess.CalledProcessError: it cannot be built.
    """
    go = shutil.which("go")
    needed = ("google.golang.org/grpc", "golang.org/x/time/rate")
    if go is None or not all((_SOURCES / "src" / name).exists() for name in needed):
        return None
    source = folder / "src" / "ratectl"
    (source / "rls").mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("main.go"), source)
    environment = os.environ | {
        "GO111MODULE": "off",
        "GOPATH": f"{folder}:{_SOURCES}",
        "GOCACHE": str(folder / "cache"),
        "GOFLAGS": "",
    }

    def run(*command: object) -> None:
        subprocess.run([*map(str, command)], check=True, env=environment)

    plugin, server = folder / "protoc-gen-go", folder / "server"
    run(go, "build", "-o", plugin, "google.golang.org/protobuf/cmd/protoc-gen-go")
    run(
        sys.executable, "-m", "grpc_tools.protoc", f"-I{_PROTO.parent}",
        f"--plugin=protoc-gen-go={plugin}", f"--go_out={source / 'rls'}",
        "--go_opt=paths=source_relative", "--go_opt=Mrls.proto=ratectl/rls", "rls.proto",
    )  # fmt: skip
    run(go, "build", "-o", server, "ratectl")
    return server
