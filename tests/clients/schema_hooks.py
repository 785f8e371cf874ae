"""Told to schemathesis: half of the requests are valid ones with one field of what was generated.

What is generated as a whole is nearly always refused for one field or another, and so would try
little but refusals.
"""

from __future__ import annotations

import zlib
from typing import Any

import schemathesis
from tests.clients.bodies import BODIES


@schemathesis.hook
def before_call(
    context: schemathesis.HookContext, case: schemathesis.Case[Any], kwargs: dict[str, Any]
) -> None:
    """Put one field that was generated into a valid body; which one follows from the whole."""
    body, valid = case.body, BODIES.get(case.operation.path)
    if valid is None or not isinstance(body, dict) or not body:
        return
    draw = zlib.crc32(repr(body).encode("utf-8", "surrogatepass"))
    if draw % 2:
        key = sorted(body)[draw // 2 % len(body)]
        case.body = {**valid, key: body[key]} if key != "model" else valid
