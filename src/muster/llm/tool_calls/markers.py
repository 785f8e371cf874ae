"""Looking for markers in a text whose end may be the beginning of one."""

from __future__ import annotations

import re

__all__ = ["Markers"]


class Markers:
    """Strings that a text is searched for; none is a part of another.

    Args:
        texts: The strings, none empty.
    """

    __slots__ = ("_firsts", "_longest", "_prefixes", "_search")

    def __init__(self, *texts: str) -> None:
        self._search = re.compile("|".join(re.escape(text) for text in texts)).search
        self._prefixes = frozenset(text[:end] for text in texts for end in range(1, len(text)))
        self._firsts = tuple({text[0] for text in texts})
        self._longest = max(map(len, texts))

    def find(self, text: str, start: int) -> re.Match[str] | None:
        """The first one in ``text`` from ``start`` on."""
        return self._search(text, start)

    def partial(self, text: str, start: int) -> int:
        """How many characters at the end of ``text`` may be the beginning of one."""
        tail = max(start, len(text) - self._longest + 1)
        if all(text.find(first, tail) < 0 for first in self._firsts):
            return 0
        for begin in range(tail, len(text)):
            if text[begin:] in self._prefixes:
                return len(text) - begin
        return 0
