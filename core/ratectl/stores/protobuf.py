"""Messages of protobuf from a table of their fields, without generated code.

Generated code would tie ratectl to one protobuf major version, and its file names in protobuf's
global pool collide with those of other libraries in the process. So each table has names and a
descriptor pool of ratectl's own: only numbers and types are sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

if TYPE_CHECKING:
    from google.protobuf.message import Message

__all__ = ["Messages"]

_SCALARS: Final = {
    "bool": FieldDescriptorProto.TYPE_BOOL,
    "bytes": FieldDescriptorProto.TYPE_BYTES,
    "int32": FieldDescriptorProto.TYPE_INT32,
    "int64": FieldDescriptorProto.TYPE_INT64,
    "string": FieldDescriptorProto.TYPE_STRING,
    "uint64": FieldDescriptorProto.TYPE_UINT64,
}


class Messages:
    """Classes of messages that refer to each other."""

    def __init__(self, package: str, table: str) -> None:
        """``table``: one message a block, each field as "name number type".

        "*" marks a repeated field, "/group" a member of a oneof. Enums are encoded as varints, so
        int32 is used for them.
        """
        self._package = package
        self.fields = _parse(table)
        """Message name → field definitions, as in the table."""
        self._pool = DescriptorPool()
        self._pool.AddSerializedFile(self._file().SerializeToString())

    def message_class(self, name: str) -> type[Message]:
        """Return the class of one message of the table."""
        return GetMessageClass(self._pool.FindMessageTypeByName(f"{self._package}.{name}"))

    def _file(self) -> FileDescriptorProto:
        name = self._package.replace(".", "/") + ".proto"
        file = FileDescriptorProto(name=name, package=self._package, syntax="proto3")
        for message_name, fields in self.fields.items():
            message = file.message_type.add(name=message_name)
            groups: dict[str, int] = {}
            for definition in fields:
                self._add_field(message, definition, groups)
        return file

    def _add_field(self, message: DescriptorProto, definition: str, groups: dict[str, int]) -> None:
        name, number, kind, *group = definition.split()
        field = message.field.add(name=name, number=int(number))
        field.label = (
            FieldDescriptorProto.LABEL_REPEATED
            if kind.endswith("*")
            else FieldDescriptorProto.LABEL_OPTIONAL
        )
        kind = kind.rstrip("*")
        if kind in _SCALARS:
            field.type = _SCALARS[kind]
        else:
            field.type = FieldDescriptorProto.TYPE_MESSAGE
            field.type_name = f".{self._package}.{kind}"
        if group:
            union = group[0].lstrip("/")
            if union not in groups:
                groups[union] = len(groups)
                message.oneof_decl.add(name=union)
            field.oneof_index = groups[union]


def _parse(table: str) -> dict[str, list[str]]:
    """Return message name → its field definitions."""
    blocks = table.replace(",\n", ",").strip().splitlines()
    pairs = (block.split(":", 1) for block in blocks if block)
    return {name: [f.strip() for f in fields.split(",") if f.strip()] for name, fields in pairs}
