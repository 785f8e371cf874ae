"""What a value must look like on the wire, and what Python value it stands for: the scalars.

A ``Shape`` reads a node and writes a value. ``compound`` builds containers and records out of
shapes. Reading is as strict as ``serde``: no float for an integer, no number for a text, no null
unless something may be absent.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from muster.errors import CardError
from muster.model.strictjson.node import Json, Members, Node, Unreadable, mismatch, to_json
from muster.model.strictjson.number import to_single

__all__ = [
    "ANY",
    "BOOL",
    "F32",
    "F64",
    "I64",
    "TEXT",
    "U8",
    "U16",
    "U32",
    "U64",
    "Choice",
    "Shape",
    "TextAs",
]

T = TypeVar("T")
E = TypeVar("E", bound=enum.StrEnum)


class Shape(Protocol[T]):
    """How a ``T`` is written in JSON."""

    def read(self, node: Node, at: str) -> T:
        """The value ``node`` stands for. Raises CardError, naming the place ``at``, if it is none."""

    def write(self, value: T) -> Json:
        """The JSON value for ``value``."""


class _Text:
    def read(self, node: Node, at: str) -> str:
        if isinstance(node, str):
            return node
        raise mismatch(node, "a string", at)

    def write(self, value: str) -> Json:
        return value


class _Bool:
    def read(self, node: Node, at: str) -> bool:
        if isinstance(node, bool):
            return node
        raise mismatch(node, "a boolean", at)

    def write(self, value: bool) -> Json:
        return value


class _Integer:
    def __init__(self, name: str, low: int, high: int) -> None:
        self._name = name
        self._low = low
        self._high = high

    def read(self, node: Node, at: str) -> int:
        if isinstance(node, bool) or not isinstance(node, int):
            raise mismatch(node, self._name, at)
        if not self._low <= node <= self._high:
            raise CardError(f"{at}: invalid value: integer `{node}`, expected {self._name}")
        return node

    def write(self, value: int) -> Json:
        return value


class _Float:
    def read(self, node: Node, at: str) -> float:
        if isinstance(node, bool) or not isinstance(node, int | float):
            raise mismatch(node, "f64", at)
        return float(node)

    def write(self, value: float) -> Json:
        return value


class _Single(_Float):
    def read(self, node: Node, at: str) -> float:
        return to_single(super().read(node, at))

    def write(self, value: float) -> Json:
        return to_single(value)


class _Any:
    def read(self, node: Node, at: str) -> Json:
        return to_json(node, at)

    def write(self, value: Json) -> Json:
        return value


class TextAs(Generic[T]):
    """A text that means something: ``parse`` reads it and ``str`` writes it.

    Args:
        expected: What the text is, for the message about a value that is no text.
        parse: Raises CardError on a bad text; the place is put before its message.
    """

    def __init__(self, expected: str, parse: Callable[[str], T]) -> None:
        self._expected = expected
        self._parse = parse

    def read(self, node: Node, at: str) -> T:
        """Read the text."""
        if not isinstance(node, str):
            raise mismatch(node, self._expected, at)
        try:
            return self._parse(node)
        except CardError as error:
            raise CardError(f"{at}: {error.message}", hint=error.hint) from error

    def write(self, value: T) -> Json:
        """Write the text."""
        return str(value)


class Choice(Generic[E]):
    """One of a few words. ``{"word": null}``, serde's long form of the same, is read too."""

    def __init__(self, kind: type[E]) -> None:
        self._kind = kind

    def read(self, node: Node, at: str) -> E:
        """Read the word."""
        word: str | Unreadable | Node = node
        if isinstance(node, Members) and len(node.pairs) == 1:
            word, content = node.pairs[0]
            if content is not None:
                raise mismatch(content, "unit", at)
        if not isinstance(word, str):
            raise mismatch(word, f"one of {self._words()}", at)
        try:
            return self._kind(word)
        except ValueError:
            shown = word[:80]
            raise CardError(
                f"{at}: unknown variant `{shown}`, expected one of {self._words()}"
            ) from None

    def write(self, value: E) -> Json:
        """Write the word."""
        return value.value

    def _words(self) -> str:
        return ", ".join(f"`{member.value}`" for member in self._kind)


TEXT = _Text()
BOOL = _Bool()
U8 = _Integer("u8", 0, 2**8 - 1)
U16 = _Integer("u16", 0, 2**16 - 1)
U32 = _Integer("u32", 0, 2**32 - 1)
U64 = _Integer("u64", 0, 2**64 - 1)
I64 = _Integer("i64", -(2**63), 2**63 - 1)
F64 = _Float()
F32 = _Single()
ANY = _Any()
