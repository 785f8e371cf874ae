from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from muster.frontend.openai.requests import ChatRequest
from muster.frontend.openapi.document import openapi_document
from muster.frontend.openapi.operations import OPERATIONS

ROUTES = list(OPERATIONS)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    made: dict[str, Any] = json.loads(msgspec.json.encode(openapi_document(ROUTES)))
    return made


def refs_in(value: object) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if "$ref" in value else set()
        return own.union(*(refs_in(each) for each in value.values()))
    if isinstance(value, list):
        return set().union(*(refs_in(each) for each in value))
    return set()


def test_every_route_is_there_once(document: dict[str, Any]) -> None:
    found = [(method, path) for path, ways in document["paths"].items() for method in ways]
    wanted = [
        (method.lower(), operation.path)
        for (method, _), operations in OPERATIONS.items()
        for operation in operations
    ]
    assert sorted(found) == sorted(wanted)
    names = [way["operationId"] for ways in document["paths"].values() for way in ways.values()]
    assert len(names) == len(set(names))


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert {ref.removeprefix("#/components/schemas/") for ref in refs_in(document)} <= set(schemas)


def test_a_request_has_the_fields_of_its_type(document: dict[str, Any]) -> None:
    chat = document["components"]["schemas"]["ChatRequest"]
    assert set(chat["properties"]) == set(ChatRequest.__struct_fields__)
    assert set(chat["required"]) == {"model", "messages"}


def test_errors_have_the_shape_of_their_api(document: dict[str, Any]) -> None:
    def shape(path: str, status: str) -> str:
        answer = document["paths"][path]["post"]["responses"][status]
        ref: str = answer["content"]["application/json"]["schema"]["$ref"]
        return ref

    assert shape("/v1/chat/completions", "429") == "#/components/schemas/Error"
    assert shape("/v1/messages", "429") == "#/components/schemas/AnthropicError"
    assert shape("/v1/messages", "default") == "#/components/schemas/AnthropicError"


def test_a_route_nobody_has_described_is_still_listed() -> None:
    document = openapi_document([("PUT", "/x"), ("GET", "/y/*")])
    assert set(document["paths"]) == {"/x", "/y/{rest}"}
    assert document["paths"]["/y/{rest}"]["get"]["parameters"][0]["name"] == "rest"
