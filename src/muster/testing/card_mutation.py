"""Cards that are wrong in many ways, or only odd: mutations of good ones, the same for a seed.

A card is held as a tree that can say what a ``dict`` cannot: repeated keys, and every leaf as the
JSON text it is to be written as.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

from muster.testing.odd_values import (
    HOSTS,
    NUMBERS,
    ODD,
    PATHS,
    SCHEMES,
    SEGMENTS,
    SEPARATORS,
    TEXTS,
    WORDS,
)

__all__ = ["CardMutator"]

_Object = list[list[Any]]
"""Members as ``[key, node]``; an array is a tuple-free ``_Array``, a leaf is a ``str``."""


class _Array(list[Any]):
    pass


class CardMutator:
    """Makes odd cards of good ones.

    Args:
        seed: Two mutators with one seed make the same cards.
        cards: The cards to begin with.
    """

    def __init__(self, seed: int, cards: list[dict[str, Any]]) -> None:
        self._random = random.Random(seed)
        self._cards = [json.dumps(card) for card in cards]

    def cards(self, count: int) -> Iterator[str]:
        """The text of ``count`` odd cards."""
        for _ in range(count):
            yield self.card()

    def card(self) -> str:
        """The text of one odd card."""
        tree = _plant(json.loads(self._random.choice(self._cards)))
        changes = (
            *(self._replace,) * 6,
            *(self._remove,) * 3,
            *(self._repeat, self._rename, self._add, self._shuffle, self._to_array),
            *(self._relocate,) * 3,
        )
        for _ in range(self._random.choice((1, 1, 1, 2, 3))):
            self._random.choice(changes)(tree)
        text = _write(tree)
        return self._garble(text) if self._random.random() < 0.04 else text

    def url(self) -> str:
        """A location as some card might have it: a URL, nearly one, or a path."""
        pick = self._random.choice
        text = pick(SCHEMES) + pick(SEPARATORS) + pick(HOSTS) + pick(PATHS)
        if self._random.random() < 0.2:
            text += "".join(f"/{pick(SEGMENTS)}" for _ in range(self._random.randrange(7)))
        if self._random.random() < 0.3:
            text += pick(PATHS)
        edge = self._random.random()
        return f" {text}" if edge < 0.03 else f"{text}\n" if edge < 0.06 else text

    def _value(self) -> str:
        kind = self._random.random()
        if kind < 0.35:
            return self._random.choice(NUMBERS)
        if kind < 0.65:
            return json.dumps(self._random.choice(TEXTS))
        if kind < 0.9:
            return self._random.choice(WORDS)
        return self._random.choice(ODD)

    def _containers(self, tree: Any, want: Callable[[Any], bool]) -> list[Any]:
        found, stack = [], [tree]
        while stack:
            node = stack.pop()
            if isinstance(node, str):
                continue
            if want(node) and len(node):
                found.append(node)
            stack += node if isinstance(node, _Array) else [value for _, value in node]
        return found

    def _place(self, tree: Any) -> tuple[Any, int] | None:
        found = self._containers(tree, lambda _: True)
        if not found:
            return None
        container = self._random.choice(found)
        return container, self._random.randrange(len(container))

    def _object(self, tree: Any) -> _Object | None:
        found = self._containers(tree, lambda node: not isinstance(node, _Array))
        chosen: _Object | None = self._random.choice(found) if found else None
        return chosen

    def _replace(self, tree: Any) -> None:
        place = self._place(tree)
        if place is not None:
            _put(*place, self._value())

    def _remove(self, tree: Any) -> None:
        place = self._place(tree)
        if place is not None:
            container, index = place
            del container[index]

    def _repeat(self, tree: Any) -> None:
        place = self._place(tree)
        if place is not None:
            container, index = place
            container.insert(self._random.randrange(len(container) + 1), container[index])

    def _rename(self, tree: Any) -> None:
        members = self._object(tree)
        if members is not None:
            self._random.choice(members)[0] = self._random.choice((*TEXTS, "name", "file"))

    def _add(self, tree: Any) -> None:
        members = self._object(tree)
        if members is not None:
            key = self._random.choice(("unknown", "é", "", "checksum", "size", "slug"))
            members.insert(self._random.randrange(len(members) + 1), [key, self._value()])

    def _shuffle(self, tree: Any) -> None:
        place = self._place(tree)
        if place is not None:
            self._random.shuffle(place[0])

    def _to_array(self, tree: Any) -> None:
        """Write an object as the array of its values, as serde accepts for a record."""
        place = self._place(tree)
        if place is not None:
            container, index = place
            node = container[index] if isinstance(container, _Array) else container[index][1]
            if isinstance(node, list) and not isinstance(node, _Array):
                _put(container, index, _Array(value for _, value in node))

    def _relocate(self, tree: Any) -> None:
        def has_path(node: Any) -> bool:
            return not isinstance(node, _Array) and any(key == "path" for key, _ in node)

        found = self._containers(tree, has_path)
        if found:
            member = next(pair for pair in self._random.choice(found) if pair[0] == "path")
            member[1] = json.dumps(self.url(), ensure_ascii=self._random.random() < 0.5)

    def _garble(self, text: str) -> str:
        position = self._random.randrange(len(text) + 1)
        extra = self._random.choice(
            ("", ",", "{", "]", '"', "\\", "\ufeff", "\x0b", "\n", "0", "x")
        )
        if self._random.random() < 0.3:
            return self._random.choice((text + extra, extra + text, text[:position]))
        return text[:position] + extra + text[position + self._random.randrange(2) :]


def _plant(value: Any) -> Any:
    if isinstance(value, dict):
        return [[key, _plant(item)] for key, item in value.items()]
    if isinstance(value, list):
        return _Array(_plant(item) for item in value)
    return json.dumps(value)


def _put(container: Any, index: int, value: Any) -> None:
    if isinstance(container, _Array):
        container[index] = value
    else:
        container[index] = [container[index][0], value]


def _write(node: Any) -> str:
    if isinstance(node, str):
        return node
    if isinstance(node, _Array):
        return "[" + ",".join(map(_write, node)) + "]"
    return "{" + ",".join(f"{json.dumps(key)}:{_write(value)}" for key, value in node) + "}"
