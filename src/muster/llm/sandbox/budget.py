"""What one rendering of a template may spend, and what cuts it off."""

from __future__ import annotations

import time
from typing import Any

import jinja2
import msgspec

__all__ = ["Budget", "TemplateCutOff", "TemplateLimits", "check_nesting", "check_size"]

_MAX_PARTS = 1 << 19


class TemplateLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How far a template may go.

    Attributes:
        time_s: Wall time of one rendering.
        characters: Length of the rendered text, and of any text or list made on the way.
    """

    time_s: float = 1.0
    characters: int = 1 << 24


class TemplateCutOff(jinja2.TemplateRuntimeError):
    """The template went beyond a limit."""


class Budget:
    """What one rendering may still spend.

    Args:
        limits: The limits.

    Attributes:
        characters: The longest text or list that may be made.
    """

    # Text may be produced more than once on its way (by a macro, then by its caller).
    _NESTING = 8

    def __init__(self, limits: TemplateLimits) -> None:
        self.characters = limits.characters
        self._time_s = limits.time_s
        self._deadline = time.monotonic() + limits.time_s
        self._left = limits.characters * self._NESTING

    def spend(self, characters: int) -> None:
        """Account for so many characters and for the time since the start.

        Raises:
            TemplateCutOff: If either is used up.
        """
        self._left -= characters
        if self._left < 0:
            raise TemplateCutOff("the chat template produces too much text")
        if time.monotonic() > self._deadline:
            raise TemplateCutOff(f"the chat template did not finish within {self._time_s:g} s")


def check_size(size: int, limit: int) -> None:
    """Refuse a text or list that would be longer than ``limit``.

    Raises:
        TemplateCutOff: It would.
    """
    if size > limit:
        raise TemplateCutOff("the chat template makes a value that is too large")


def check_nesting(value: Any, limit: int) -> None:
    """Refuse a value that reads much longer than it is, because its parts are used many times.

    Args:
        value: Any value; only lists, tuples and dicts have parts.
        limit: Of the characters in it, each part counted as often as it is used.

    Raises:
        TemplateCutOff: It reads longer than that, or has very many parts.
    """
    if not isinstance(value, list | tuple | dict):
        return
    left, parts = limit, 0
    todo: list[Any] = [value]
    while todo:
        part = todo.pop()
        parts += 1
        if isinstance(part, str):
            left -= len(part)
        if left < 0 or parts > _MAX_PARTS:
            raise TemplateCutOff("the chat template prints a value that is too large")
        if isinstance(part, dict):
            todo.extend(part)
            todo.extend(part.values())
        elif isinstance(part, list | tuple):
            todo.extend(part)
