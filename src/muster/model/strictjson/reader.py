"""Turn a JSON text into nodes, with the same verdict on its syntax as ``serde_json``.

Works without recursion, so that nesting of any depth costs memory and not the stack. The words of
the language (white space, keys, scalars) come from a ``Grammar``: strict JSON here, JSON5 in
``json5``.
"""

from __future__ import annotations

import json
import re
from typing import Protocol

from muster.errors import CardError
from muster.model.strictjson.node import Members, Node, Unreadable
from muster.model.strictjson.number import parse_number

__all__ = ["Grammar", "StrictGrammar", "mark_surrogates", "parse", "read", "syntax_error"]

_DEPTH_LIMIT = 127
"""Containers inside one another that a reader follows; ``serde_json`` stops at its 128th."""

_SPACE = re.compile(r"[ \t\n\r]*+")
_STRING = re.compile(
    r'"(?:[^"\\\x00-\x1f]++|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*+"',
)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?")
_SURROGATE = re.compile("[\ud800-\udfff]")
_WORDS: dict[str, tuple[str, bool | None]] = {
    "t": ("true", True),
    "f": ("false", False),
    "n": ("null", None),
}

_Key = str | Unreadable


class Grammar(Protocol):
    """The words of a JSON dialect. Each method takes a position and returns the one after."""

    trailing_comma: bool
    """Whether a comma may stand before a closing bracket."""

    def skip(self, text: str, position: int) -> int:
        """Pass over white space and whatever counts as such."""

    def key(self, text: str, position: int) -> tuple[_Key, int]:
        """Read a member's name. Raises CardError if there is none."""

    def scalar(self, text: str, position: int) -> tuple[Node, int]:
        """Read a string, number or word. Raises CardError if there is none."""


class StrictGrammar:
    """JSON as RFC 8259 has it."""

    trailing_comma = False

    def skip(self, text: str, position: int) -> int:
        """Pass over space, tab, line feed and carriage return."""
        match = _SPACE.match(text, position)
        return match.end() if match else position

    def key(self, text: str, position: int) -> tuple[_Key, int]:
        """Read a string."""
        if text[position : position + 1] != '"':
            raise syntax_error(text, position, "key must be a string")
        return self._string(text, position)

    def scalar(self, text: str, position: int) -> tuple[Node, int]:
        """Read a string, a number, ``true``, ``false`` or ``null``."""
        first = text[position : position + 1]
        if first == '"':
            return self._string(text, position)
        if first in _WORDS and first:
            word, value = _WORDS[first]
            if text.startswith(word, position):
                return value, position + len(word)
        match = _NUMBER.match(text, position)
        if match is None:
            raise syntax_error(text, position, "expected value")
        return parse_number(match.group()), match.end()

    def _string(self, text: str, position: int) -> tuple[_Key, int]:
        match = _STRING.match(text, position)
        if match is None:
            raise syntax_error(text, position, "not a valid string")
        body = match.group()
        if "\\" not in body:
            return body[1:-1], match.end()
        return mark_surrogates(json.loads(body)), match.end()


_STRICT = StrictGrammar()


def read(data: str | bytes) -> Node:
    """Parse strict JSON.

    Raises:
        CardError: If ``data`` is not UTF-8 or not one JSON value; says where.
    """
    if isinstance(data, bytes):
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            raise CardError(f"not JSON: not UTF-8 at byte {error.start}") from error
    else:
        text = data
        if (match := _SURROGATE.search(text)) is not None:
            raise syntax_error(text, match.start(), "half a surrogate pair")
    return parse(text, _STRICT)


def mark_surrogates(text: str) -> _Key:
    """``text``, or ``Unreadable`` if it has half a surrogate pair, which UTF-8 has no bytes for."""
    if _SURROGATE.search(text) is not None:
        return Unreadable("half a surrogate pair in a string")
    return text


def syntax_error(text: str, position: int, what: str) -> CardError:
    """The error for a text that is not JSON at ``position``."""
    line = text.count("\n", 0, position) + 1
    column = position - (text.rfind("\n", 0, position) + 1) + 1
    return CardError(f"not JSON: {what} at line {line} column {column}")


class _Open:
    """A container whose end has not been read yet."""

    __slots__ = ("items", "key", "pairs")

    def __init__(self, *, is_object: bool) -> None:
        self.items: list[Node] = []
        self.pairs: list[tuple[_Key, Node]] | None = [] if is_object else None
        self.key: _Key = ""

    @property
    def closer(self) -> str:
        return "]" if self.pairs is None else "}"

    def add(self, node: Node) -> None:
        if self.pairs is None:
            self.items.append(node)
        else:
            self.pairs.append((self.key, node))

    def close(self) -> Node:
        return self.items if self.pairs is None else Members(self.pairs)


def parse(text: str, grammar: Grammar) -> Node:
    """Parse one value, and nothing after it, of the dialect ``grammar``.

    Raises:
        CardError: If ``text`` is not that.
    """
    parser = _Parser(text, grammar)
    node = parser.value()
    end = grammar.skip(text, parser.position)
    if end != len(text):
        raise syntax_error(text, end, "trailing characters")
    return node


class _Parser:
    def __init__(self, text: str, grammar: Grammar) -> None:
        self.text = text
        self.grammar = grammar
        self.position = 0
        self.stack: list[_Open] = []

    def value(self) -> Node:
        while True:
            opened, node = self._begin()
            if opened:
                continue
            while self.stack:
                self.stack[-1].add(node)
                if self._another():
                    break
                node = self._finish()
            else:
                return node

    def _begin(self) -> tuple[bool, Node]:
        """Read a whole scalar or empty container, or open a container that has content."""
        char = self._peek()
        if char not in ("{", "["):
            node, self.position = self.grammar.scalar(self.text, self.position)
            return False, node
        self.position += 1
        self.stack.append(_Open(is_object=char == "{"))
        if self._peek() == self.stack[-1].closer:
            self.position += 1
            return False, self._finish()
        self._read_key()
        return True, None

    def _another(self) -> bool:
        """After an item: whether one more follows. Passes the comma, or the closing bracket."""
        closer = self.stack[-1].closer
        char = self._peek()
        self.position += 1
        if char == closer:
            return False
        if char != ",":
            raise syntax_error(self.text, self.position - 1, f"expected `,` or `{closer}`")
        if self._peek() == closer:
            if not self.grammar.trailing_comma:
                raise syntax_error(self.text, self.position, "trailing comma")
            self.position += 1
            return False
        self._read_key()
        return True

    def _read_key(self) -> None:
        top = self.stack[-1]
        if top.pairs is None:
            return
        top.key, self.position = self.grammar.key(self.text, self.position)
        if self._peek() != ":":
            raise syntax_error(self.text, self.position, "expected `:`")
        self.position += 1

    def _finish(self) -> Node:
        too_deep = len(self.stack) > _DEPTH_LIMIT
        node = self.stack.pop().close()
        return Unreadable("recursion limit exceeded") if too_deep else node

    def _peek(self) -> str:
        self.position = self.grammar.skip(self.text, self.position)
        return self.text[self.position : self.position + 1]
