"""Our names beside the real stub's: what is missing is said, what is there takes its arguments."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

import muster

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "from-dynamo.md"
CLASSES = ("DistributedRuntime", "Endpoint", "Client", "Instance")
FUNCTIONS = (
    "register_model", "unregister_model", "update_model_taints", "lora_name_to_id", "fetch_model"
)  # fmt: skip

pytestmark = pytest.mark.peer


@pytest.fixture(scope="module")
def stub(peer: Path) -> ast.Module:
    (path,) = peer.glob("lib/python3*/site-packages/dynamo/_core.pyi")
    return ast.parse(path.read_text("utf-8"))


def functions_of(stub: ast.Module) -> Iterator[tuple[str, list[str]]]:
    """Dotted names and their arguments' names, without ``self``."""
    for node in stub.body:
        if isinstance(node, ast.ClassDef) and node.name in CLASSES:
            for each in node.body:
                if isinstance(
                    each, ast.FunctionDef | ast.AsyncFunctionDef
                ) and not each.name.startswith("__"):
                    yield f"{node.name}.{each.name}", _arguments(each)[1:]
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name in FUNCTIONS:
            yield node.name, _arguments(node)


def _arguments(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    return [each.arg for each in (*function.args.args, *function.args.kwonlyargs)]


def ours(path: str) -> object | None:
    found: object = muster
    for name in path.split("."):
        if name in getattr(found, "__struct_fields__", ()):
            return name
        found = getattr(found, name, None)
    return found


def test_every_name_of_the_stub_is_here_or_said_not_to_be(stub: ast.Module) -> None:
    page = PAGE.read_text("utf-8")
    missing = [path for path, _ in functions_of(stub) if ours(path) is None]
    assert [path for path in missing if f"`{path.rpartition('.')[2]}`" not in page] == []


def test_every_function_takes_the_stubs_arguments_in_their_order(stub: ast.Module) -> None:
    compared = 0
    for path, theirs in functions_of(stub):
        found = ours(path)
        if callable(found):
            mine = [name for name in inspect.signature(found).parameters if name != "self"]
            assert [name for name in mine if name in theirs] == theirs, path
            compared += 1
    assert compared > 15
