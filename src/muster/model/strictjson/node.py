"""What a JSON text says, before anything is made of it.

Ordinary parsers lose what a card's verdict depends on: repeated keys, and faults (a number out of
range, half a surrogate pair, nesting too deep) that ``serde_json`` only minds in a value somebody
reads. So an object is its list of members, and a faulty value is kept as ``Unreadable`` until then.
"""

from __future__ import annotations

import json
from typing import TypeAlias

import msgspec

from muster.errors import CardError

__all__ = ["Json", "Members", "Node", "Unreadable", "describe", "mismatch", "to_json", "where"]

_SHOWN = 80
"""Characters of a foreign text an error message quotes."""


class Unreadable(msgspec.Struct, frozen=True):
    """A value that is valid JSON text but has no meaning. Harmless as long as nobody reads it."""

    reason: str


class Members(msgspec.Struct, frozen=True):
    """An object: its members in order, repeated keys included."""

    pairs: list[tuple[str | Unreadable, Node]]


Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
"""A JSON value as Python has it."""
Node: TypeAlias = "bool | int | float | str | list[Node] | Members | Unreadable | None"
"""A JSON value as it was written."""


def where(at: str, name: str | int) -> str:
    """The place of a member or item of ``at``: ``needs[0]``, ``runtime_config.taints``."""
    if isinstance(name, int):
        return f"{at}[{name}]"
    return f"{at}.{name}" if at else name


def describe(node: Node) -> str:
    """What kind of value this is, for an error message; long texts are cut."""
    if isinstance(node, bool):
        return f"boolean `{str(node).lower()}`"
    if isinstance(node, int):
        return f"integer `{node}`"
    if isinstance(node, float):
        return f"floating point `{node}`"
    if isinstance(node, str):
        return f"string {json.dumps(node[:_SHOWN])}"
    if isinstance(node, Unreadable):
        return node.reason
    if isinstance(node, list):
        return "sequence"
    return "null" if node is None else "map"


def mismatch(node: Node, expected: str, at: str) -> CardError:
    """The error for a value of the wrong kind at ``at``."""
    place = at or "card"
    if isinstance(node, Unreadable):
        return CardError(f"{place}: {node.reason}")
    return CardError(f"{place}: invalid type: {describe(node)}, expected {expected}")


def to_json(node: Node, at: str) -> Json:
    """The Python value of ``node``. Of a repeated key the first place and the last value count.

    Raises:
        CardError: If a value anywhere in it is unreadable.
    """
    if isinstance(node, Unreadable):
        raise mismatch(node, "", at)
    if isinstance(node, list):
        return [to_json(item, where(at, index)) for index, item in enumerate(node)]
    if isinstance(node, Members):
        out: dict[str, Json] = {}
        for key, value in node.pairs:
            if isinstance(key, Unreadable):
                raise mismatch(key, "", at)
            out[key] = to_json(value, where(at, key))
        return out
    return node
