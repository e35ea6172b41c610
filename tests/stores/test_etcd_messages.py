"""Table of etcd messages: Python types, and no conflict with another etcd client."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys

import pytest

from ratectl.stores.etcd import messages as m
from ratectl.stores.etcd.schema import MESSAGES

_SCALARS = {"int32": "int", "int64": "int", "uint64": "int", "string": "str"}


def annotations() -> dict[str, dict[str, str]]:
    """Return class → attribute → type, as declared for type checkers."""
    classes = [n for n in ast.walk(ast.parse(inspect.getsource(m))) if isinstance(n, ast.ClassDef)]
    return {
        each.name: {
            ast.unparse(line.target): ast.unparse(line.annotation)
            for line in each.body
            if isinstance(line, ast.AnnAssign)
        }
        for each in classes
    }


def test_declared_types_equal_the_table() -> None:
    expected: dict[str, dict[str, str]] = {}
    for name, fields in MESSAGES.items():
        expected[name] = {}
        for definition in fields:
            field, _, kind, *_ = definition.split()
            python = _SCALARS.get(kind.rstrip("*"), kind.rstrip("*"))
            expected[name][field] = f"list[{python}]" if kind.endswith("*") else python
    assert annotations() == expected


def test_round_trip_keeps_every_field_that_is_set() -> None:
    """A revision of 0 in a comparison is sent: it means "absent"."""
    compare = m.Compare(target=2, key=b"k", mod_revision=0)
    request = m.TxnRequest(
        compare=[compare],
        success=[m.RequestOp(request_put=m.PutRequest(key=b"k", value=b"v"))],
    )
    again = m.TxnRequest.FromString(request.SerializeToString())
    assert again.compare[0].HasField("mod_revision")
    assert again.success[0].WhichOneof("request") == "request_put"
    assert again.success[0].request_put.value == b"v"


@pytest.mark.parametrize("order", [("ratectl", "etcd3"), ("etcd3", "ratectl")])
def test_messages_work_beside_another_etcd_client(order: tuple[str, str]) -> None:
    """Both register their messages, in either order, without an error."""
    pytest.importorskip("etcd3")
    imports = {"ratectl": "import ratectl.stores.etcd", "etcd3": "import etcd3.etcdrpc"}
    code = "; ".join(imports[name] for name in order)
    code += "; from ratectl.stores.etcd import messages as m; import etcd3.etcdrpc as e"
    code += "; assert m.PutRequest(key=b'k').SerializeToString()"
    code += " == e.PutRequest(key=b'k').SerializeToString()"
    # Warnings are allowed: the code of etcd3 causes some.
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
