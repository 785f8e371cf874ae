"""The OpenAPI document, from the routes that are registered and the types they read. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import msgspec

from muster import __version__
from muster.frontend.openapi.bounds import with_bounds
from muster.frontend.openapi.operations import JSON, Operation, operations_of

__all__ = ["openapi_document"]

_PHRASES = {status.value: status.phrase for status in HTTPStatus} | {
    499: "Client Closed Request",
    529: "Overloaded",
}
_ERRORS = {"Anthropic": "AnthropicError", "Administration": "AdministrationError"}
_DETAIL = {"type": "object", "required": ["message", "type"]}
_ERROR_SCHEMAS: dict[str, Any] = {
    "Error": {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["message", "type", "param", "code"],
                "properties": {
                    "message": {"type": "string"},
                    "type": {"type": "string"},
                    "param": {"type": ["string", "null"]},
                    "code": {"type": ["string", "null"]},
                },
            }
        },
    },
    "AdministrationError": {
        "anyOf": [
            {"$ref": "#/components/schemas/Error"},
            {
                "type": "object",
                "required": ["error"],
                "properties": {"error": {"type": "string"}},
            },
        ]
    },
    "AnthropicError": {
        "type": "object",
        "required": ["type", "error"],
        "properties": {
            "type": {"const": "error"},
            "error": {
                **_DETAIL,
                "properties": {"message": {"type": "string"}, "type": {"type": "string"}},
            },
            "request_id": {"type": "string"},
        },
    },
}
_PLACE = re.compile(r"\{(\w+)\}")
Json = dict[str, Any]


def openapi_document(routes: Iterable[tuple[str, str]]) -> Json:
    """The document.

    Args:
        routes: Method and path of every route; a path may end in ``/*``.
    """
    described = [
        (method, operation) for method, path in routes for operation in operations_of(method, path)
    ]
    types = [
        each
        for _, operation in described
        for each in (operation.request, operation.reply)
        if each is not None
    ]
    unique = list(dict.fromkeys(types))
    found, schemas = msgspec.json.schema_components(
        unique, ref_template="#/components/schemas/{name}"
    )
    known = dict(zip(unique, found, strict=True))
    paths: dict[str, Json] = {}
    for method, operation in described:
        paths.setdefault(operation.path, {})[method.lower()] = _operation(operation, method, known)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Muster", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": with_bounds(schemas) | _ERROR_SCHEMAS,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
        "security": [{}, {"bearer": []}, {"x-api-key": []}],
    }


def _operation(operation: Operation, method: str, known: dict[Any, Json]) -> Json:
    described: Json = {
        "operationId": _name(method, operation.path),
        "summary": operation.summary,
        "tags": [operation.tag],
        "responses": {
            str(status): _response(status, operation, known) for status in operation.all_statuses()
        },
    }
    if operation.open_ended:
        described["responses"]["default"] = _error("An error of the engine's", operation.tag)
    places = _PLACE.findall(operation.path)
    if places:
        described["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in places
        ]
    if operation.request is not None:
        described["requestBody"] = {
            "required": True,
            "content": {JSON: {"schema": known[operation.request]}},
        }
    return described


def _response(status: int, operation: Operation, known: dict[Any, Json]) -> Json:
    text = _PHRASES[status]
    if status == 503 and operation.path in ("/health", "/live", "/v1/models/{model}/ready"):
        return {"description": text, "content": {JSON: {"schema": {"type": "object"}}}}
    if status >= 400:
        return _error(text, operation.tag)
    if status >= 300 or status == 204:
        return {"description": text}
    whole = known[operation.reply] if operation.reply is not None else {}
    content = {media: {"schema": whole} if media == JSON else {} for media in operation.media}
    return {"description": text, "content": content}


def _error(text: str, tag: str) -> Json:
    schema = {"$ref": f"#/components/schemas/{_ERRORS.get(tag, 'Error')}"}
    return {"description": text, "content": {JSON: {"schema": schema}}}


def _name(method: str, path: str) -> str:
    words = re.findall(r"\w+", path)
    ending = "_" if path.endswith("/") else ""
    return "_".join([method.lower(), *words]) + ending
