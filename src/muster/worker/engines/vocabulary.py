"""The tokens a simulated engine speaks with: printable words of the model's own vocabulary.

Pure. The same vocabulary always gives the same words in the same order.
"""

from __future__ import annotations

import random
import re
import zlib
from array import array
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import chain, cycle, islice

from muster.errors import CardError, InvalidArgument

__all__ = ["ENOUGH_WORDS", "Vocabulary", "choose_words"]

_TABLE_LENGTH = 1 << 16
ENOUGH_WORDS = 32
_U64 = (1 << 64) - 1
_KEPT_TABLES = 4
_STRIDE = 40503  # odd, so that every choice of a request begins elsewhere in the table

_WORD = re.compile(rb" [A-Za-z]{2,12}")
_PRINTABLE = re.compile(rb"[\x20-\x7e]+")


def _is_text(data: bytes) -> bool:
    try:
        return data.decode().isprintable() and bool(data)
    except UnicodeDecodeError:
        return False


_TASTES: tuple[Callable[[bytes], object], ...] = (_WORD.fullmatch, _PRINTABLE.fullmatch, _is_text)
"""What counts as a word, best first."""


def choose_words(texts: Sequence[tuple[int, bytes]]) -> list[int]:
    """Ids of tokens that read well: words after a space, else printable ASCII, else any text.

    A lower taste is used only where the better one finds fewer than ``ENOUGH_WORDS``.

    Args:
        texts: Ids and what they stand for, without special tokens.

    Raises:
        CardError: If no token has a text.
    """
    found: list[int] = []
    for taste in _TASTES:
        found = [token_id for token_id, data in texts if taste(data)]
        if len(found) >= ENOUGH_WORDS:
            break
    if not found:
        raise CardError("no token of this vocabulary has a printable text")
    return found


class Vocabulary:
    """Some ids in a fixed pseudo-random order, repeated without end.

    Args:
        words: The ids to draw from; at least one.
    """

    __slots__ = ("_table", "_without", "words")

    def __init__(self, words: Sequence[int]) -> None:
        self.words = frozenset(words)
        self._table = random.Random(0).choices(words, k=_TABLE_LENGTH)  # noqa: S311 - no secret
        self._without: dict[frozenset[int], list[int]] = {}

    def start_of(self, prompt: Sequence[int], seed: int | None, index: int) -> int:
        """Where in the order a reply begins: the same for the same prompt, seed and choice.

        Raises:
            InvalidArgument: If a token of the prompt is no token id.
        """
        try:
            numbers = array("Q", [(seed or 0) & _U64, *prompt])
        except OverflowError as error:
            raise InvalidArgument(f"the prompt has a token id out of range: {error}") from error
        return (zlib.crc32(numbers.tobytes()) + index * _STRIDE) % _TABLE_LENGTH

    def draw(self, start: int, count: int, *, never: Collection[int] = ()) -> Iterator[int]:
        """``count`` ids from ``start`` on, leaving out those in ``never``.

        Raises:
            InvalidArgument: If that leaves none.
        """
        banned = self.words.intersection(never)
        table = self._table_without(banned) if banned else self._table
        start %= len(table)
        if start + count <= len(table):
            return iter(table[start : start + count])
        return islice(chain(table[start:], cycle(table)), count)

    def _table_without(self, banned: frozenset[int]) -> list[int]:
        """The order without some ids; the few sets that come up (a model's ends) are kept."""
        table = self._without.get(banned)
        if table is None:
            table = [token_id for token_id in self._table if token_id not in banned]
            if not table:
                raise InvalidArgument("every token this engine can emit ends the sequence")
            if len(self._without) >= _KEPT_TABLES:
                self._without.clear()
            self._without[banned] = table
        return table
