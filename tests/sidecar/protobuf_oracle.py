"""Messages of ``rls.proto`` with code that protobuf generates: tests compare ours with them."""

from __future__ import annotations

import tempfile
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from google.protobuf import (  # noqa: F401  rls.proto imports them
    descriptor_pb2,
    descriptor_pool,
    duration_pb2,
    message_factory,
    struct_pb2,
    wrappers_pb2,
)
from grpc_tools import protoc

import ratectl.sidecar


@cache
def described() -> descriptor_pb2.FileDescriptorProto:
    """Return ``rls.proto`` as protobuf's compiler reads it."""
    folder = Path(str(files(ratectl.sidecar)))
    well_known = files("grpc_tools") / "_proto"
    with tempfile.TemporaryDirectory() as out:
        found = f"{out}/found"
        arguments = ["protoc", f"-I{folder}", f"-I{well_known}", f"-o{found}", "rls.proto"]
        assert protoc.main(arguments) == 0
        read = descriptor_pb2.FileDescriptorSet.FromString(Path(found).read_bytes())
    return read.file[0]


@cache
def message(name: str, package: str = "ratectl.rls") -> Any:
    """Return the class of a message of ``rls.proto``.

    :param package: ``raw``: texts are bytes, which need not be UTF-8.
    """
    pool = descriptor_pool.Default()
    try:
        return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
    except KeyError:
        pool.Add(_raw() if package == "raw" else described())
        return message(name, package)


def _raw() -> descriptor_pb2.FileDescriptorProto:
    raw = descriptor_pb2.FileDescriptorProto()
    raw.CopyFrom(described())
    raw.name, raw.package = "raw.proto", "raw"
    for each in raw.message_type:
        for field in each.field:
            if field.type == field.TYPE_STRING:
                field.type = field.TYPE_BYTES
            elif field.type_name:
                field.type_name = field.type_name.replace(".ratectl.rls.", ".raw.")
    return raw
