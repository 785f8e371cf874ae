"""MiniMax M2 and M3: ``invoke`` tags. Source: the tool calling guides published with the models.

M3 writes a marker before each tag, names parameters by tags, and lists and objects as tags in tags.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from muster.llm.tool_calls.markers import Markers
from muster.llm.tool_calls.scanner import MAX_NAME, Malformed, Steps
from muster.llm.tool_calls.tagged import TaggedParser

__all__ = ["MiniMaxM2Parser", "MiniMaxM3Parser"]

_QUOTE = Markers('"')
_BRACKET = Markers(">")
_VALUE_END = Markers("</parameter>")
_NAMESPACE = "]<]minimax[>["
_NEXT_TAG = Markers(_NAMESPACE)
_ITEM = "item"
_DEEPEST = 64


class MiniMaxM2Parser(TaggedParser):
    """``<minimax:tool_call>`` around ``<invoke name="f">`` and ``<parameter name="key">`` tags."""

    opening = Markers("<minimax:tool_call>")

    def calls(self, marker: str) -> Steps[None]:
        """The calls of a block."""
        scanner = self.scanner
        yield from scanner.space()
        yield from scanner.expect('<invoke name="')
        while True:
            self.start((yield from self._name()))
            while True:
                yield from scanner.space()
                if (yield from scanner.expect('<parameter name="', "</invoke>")) == "</invoke>":
                    break
                key = yield from self._name()
                yield from self.argument(key, _VALUE_END, padded=True)
            self.end()
            yield from scanner.space()
            if (yield from scanner.accept('<invoke name="', "</minimax:tool_call>")) in (
                None,
                "</minimax:tool_call>",
            ):
                return

    def _name(self) -> Steps[str]:
        name, _ = yield from self.scanner.short_until(_QUOTE)
        yield from self.scanner.expect(">")
        return name


class _Node:
    """A tag of M3 and what it holds."""

    __slots__ = ("children", "text")

    def __init__(self) -> None:
        self.text: list[str] = []
        self.children: list[tuple[str, _Node]] = []


class MiniMaxM3Parser(TaggedParser):
    """As M2, each tag after a marker of its own; ``<key>value</key>`` instead of ``parameter``."""

    opening = Markers(f"{_NAMESPACE}<tool_call>")

    def calls(self, marker: str) -> Steps[None]:
        """The calls of a block."""
        scanner = self.scanner
        invoke, done = f'{_NAMESPACE}<invoke name="', f"{_NAMESPACE}</tool_call>"
        yield from scanner.space()
        yield from scanner.expect(invoke)
        while True:
            name, _ = yield from scanner.short_until(_QUOTE)
            yield from scanner.expect(">")
            self.start(name)
            yield from self._arguments()
            self.end()
            yield from scanner.space()
            if (yield from scanner.accept(invoke, done)) != invoke:
                return

    def _arguments(self) -> Steps[None]:
        scanner = self.scanner
        while True:
            yield from scanner.space()
            yield from scanner.expect(_NAMESPACE)
            tag = yield from self._tag()
            if tag == "/invoke":
                return
            schema = self.schemas.of(self.function, tag)
            if schema is not None and self.schemas.is_text(self.function, tag):
                end = Markers(f"{_NAMESPACE}</{tag}>")
                yield from self.argument(tag, end, padded=False)
                continue
            self.key(tag)
            node = yield from self._node(tag, 0)
            scanner.arguments(self._as_json(node, schema))

    def _tag(self) -> Steps[str]:
        yield from self.scanner.expect("<")
        tag, _ = yield from self.scanner.short_until(_BRACKET, MAX_NAME)
        if not tag or any(each.isspace() for each in tag):
            raise Malformed
        return tag

    def _node(self, name: str, depth: int) -> Steps[_Node]:
        """What stands between a tag that has been taken and its end."""
        if depth > _DEEPEST:
            raise Malformed
        node = _Node()
        while True:
            if (yield from self.scanner.text_until(_NEXT_TAG, node.text.append)) is None:
                raise Malformed
            tag = yield from self._tag()
            if tag == f"/{name}":
                return node
            if tag.startswith("/"):
                raise Malformed
            node.children.append((tag, (yield from self._node(tag, depth + 1))))

    def _as_json(self, node: _Node, schema: Mapping[str, Any] | None) -> str:
        text = "".join(node.text)
        if not node.children:
            return self.schemas.convert(schema, text)
        if text.strip():
            raise Malformed
        if all(name == _ITEM for name, _ in node.children):
            items = schema.get("items") if schema is not None else None
            inner = items if isinstance(items, Mapping) else None
            return f"[{', '.join(self._as_json(child, inner) for _, child in node.children)}]"
        if len({name for name, _ in node.children}) < len(node.children):
            raise Malformed
        properties = schema.get("properties") if schema is not None else None
        known = properties if isinstance(properties, Mapping) else {}
        members = (
            f"{msgspec.json.encode(name).decode()}: {self._as_json(child, known.get(name))}"
            for name, child in node.children
        )
        return f"{{{', '.join(members)}}}"
