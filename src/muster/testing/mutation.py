"""Requests that are almost right: seeded changes of JSON bodies, as values and as bytes. Pure."""

from __future__ import annotations

import contextlib
import copy
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["Mutator"]

Path = tuple[Any, ...]

_ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**40, 2**63, -(2**63) - 1, 10**30, 1.5, -0.0, 1e308, 5e-324,
    "", "x", " ", "\u0000", "\ud800", "\udfff\ud800", "漢", "\u202e", "{{ 1 / 0 }}", "%s%n", "1", "true",
    [], {}, [[]], [None], [{}], {"": None}, {"type": "text"}, {"type": []}, {"role": {}},
    [{"type": "x"}], {"a": {"b": [{}]}}, "<|im_end|>",
)  # fmt: skip
_BARE = ("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "0x10", "01", "1.", "nul", "9" * 400)
"""What is no JSON number, or none that fits: written instead of a value."""
_MARK = "@bare@"
_DEPTHS = (5, 200, 1200)
_LENGTHS = (300, 5_000)


class Mutator:
    """Makes bodies; the same seed gives the same ones.

    Args:
        seed: Of what is drawn.
    """

    def __init__(self, seed: int | str) -> None:
        self._draw = random.Random(seed)
        self._steps: tuple[Callable[[dict[str, Any]], None], ...] = (
            self._replace, self._replace, self._replace, self._drop, self._exchange, self._retype,
            self._bury, self._lengthen, self._repeat, self._add, self._bare,
        )  # fmt: skip

    def body(self, valid: dict[str, Any]) -> bytes:
        """A body that differs from ``valid`` in one to three ways."""
        value: dict[str, Any] = json.loads(json.dumps(valid))
        for _ in range(self._draw.choice((1, 1, 1, 2, 3))):
            if value:
                self._draw.choice(self._steps)(value)
        return self._written(value)

    # -- as values ---------------------------------------------------------------------------

    def _replace(self, value: dict[str, Any]) -> None:
        self._set(value, self._any_path(value), self._odd())

    def _drop(self, value: dict[str, Any]) -> None:
        *way, last = self._any_path(value)
        del _at(value, way)[last]

    def _exchange(self, value: dict[str, Any]) -> None:
        one, other = self._any_path(value), self._any_path(value)
        if one[: len(other)] != other and other[: len(one)] != one:
            first, second = _at(value, one), _at(value, other)
            self._set(value, one, second)
            self._set(value, other, first)

    def _retype(self, value: dict[str, Any]) -> None:
        path = self._any_path(value)
        found = _at(value, path)
        changed = ([found], {"value": found}, _dumped(found, ascii_only=True), not found)
        self._set(value, path, self._draw.choice(changed))

    def _bury(self, value: dict[str, Any]) -> None:
        buried: Any = "x"
        wrap = self._draw.choice((lambda inner: [inner], lambda inner: {"type": inner}))
        for _ in range(self._draw.choice(_DEPTHS)):
            buried = wrap(buried)
        self._set(value, self._any_path(value), buried)

    def _lengthen(self, value: dict[str, Any]) -> None:
        piece = self._draw.choice(("x", "漢", "🌍", "\\", '"', "\n", "{", "<tool_call>"))
        text = piece * self._draw.choice(_LENGTHS)
        self._set(value, self._any_path(value), text)

    def _repeat(self, value: dict[str, Any]) -> None:
        path = self._any_path(value)
        found = _at(value, path)
        with contextlib.suppress(RecursionError):  # what is buried deep is enough once
            times = self._draw.choice((2, 130))
            self._set(value, path, [copy.deepcopy(found) for _ in range(times)])

    def _add(self, value: dict[str, Any]) -> None:
        holders = [value, *(h for p in _paths(value) if isinstance(h := _at(value, p), dict))]
        name = self._draw.choice(
            ("n", "type", "stream", "unknown", "", "\ud800", "model", "0", "id")
        )
        self._draw.choice(holders)[name] = self._odd()

    def _bare(self, value: dict[str, Any]) -> None:
        self._set(value, self._any_path(value), _MARK + self._draw.choice(_BARE))

    def _odd(self) -> Any:
        return copy.deepcopy(self._draw.choice(_ODD))

    def _any_path(self, value: dict[str, Any]) -> Path:
        return self._draw.choice(list(_paths(value)))

    def _set(self, value: dict[str, Any], path: Path, new: Any) -> None:
        *way, last = path
        _at(value, way)[last] = new

    # -- as bytes ----------------------------------------------------------------------------

    def _written(self, value: dict[str, Any]) -> bytes:
        text = _dumped(value, ascii_only=self._draw.random() < 0.5)
        for bare in _BARE:
            text = text.replace(f'"{_MARK}{bare}"', bare)
        chance = self._draw.random()
        if chance < 0.05:
            text = self._twice(text)
        data = text.encode("utf-8", "surrogatepass")
        if chance > 0.98:
            return data[: self._draw.randrange(len(data))]
        if chance > 0.96:
            place = self._draw.randrange(len(data))
            return data[:place] + self._draw.randbytes(2) + data[place + 1 :]
        return data

    def _twice(self, text: str) -> str:
        """A key of the outermost object once more, with another value."""
        key = self._draw.choice(("model", "stream", "messages", "prompt", "input", "max_tokens"))
        return text[:-1] + f', "{key}": {json.dumps(self._draw.choice(_ODD))}}}'


def _dumped(value: Any, *, ascii_only: bool) -> str:
    """``json.dumps`` for what is nested more deeply than that can go."""
    try:
        return json.dumps(value, ensure_ascii=ascii_only)
    except RecursionError:
        pass
    pieces: list[str] = []
    pending: list[Any] = [(value,)]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            pieces.append(item)
            continue
        (inner,) = item
        if isinstance(inner, dict):
            parts: list[Any] = ["{"]
            for number, (key, each) in enumerate(inner.items()):
                parts += [", " if number else "", json.dumps(key), ": ", (each,)]
            pending += reversed([*parts, "}"])
        elif isinstance(inner, list):
            parts = ["["]
            for number, each in enumerate(inner):
                parts += [", " if number else "", (each,)]
            pending += reversed([*parts, "]"])
        else:
            pieces.append(json.dumps(inner, ensure_ascii=ascii_only))
    return "".join(pieces)


def _paths(value: Any, path: Path = (), depth: int = 0) -> Iterator[Path]:
    """Where the values below ``value`` are, as far down as bodies go."""
    if path:
        yield path
    if depth > 20:
        return
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _paths(each, (*path, key), depth + 1)
    elif isinstance(value, list):
        for index, each in enumerate(value[:20]):
            yield from _paths(each, (*path, index), depth + 1)


def _at(value: Any, path: Any) -> Any:
    for step in path:
        value = value[step]
    return value
