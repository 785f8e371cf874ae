"""From a decoder's plan and the spellings of tokens to decoding states of streams."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from muster.llm.decoder import BytePlan, PiecePlan, token_to_bytes
from muster.llm.detokenizer import ByteDetokenizer, Detokenizer, PieceDetokenizer, TokenTable

__all__ = ["DecodingTables", "FindText", "decoding_tables", "plain_bytes"]

FindText = Callable[[int], str | None]
"""The spelling of a token by its id; ``None`` for an id nobody has."""


class DecodingTables(Protocol):
    """What the streams of one vocabulary share."""

    def new_detokenizer(self) -> Detokenizer:
        """A decoding state for one stream."""
        ...


def decoding_tables(
    plan: BytePlan | PiecePlan, find_text: FindText, hidden: frozenset[str] = frozenset()
) -> DecodingTables:
    """Tables for a vocabulary, filled as ids come up.

    Args:
        plan: How its tokens become text.
        find_text: Their spellings.
        hidden: Spellings of tokens that have no text in a reply.
    """
    if isinstance(plan, BytePlan):
        return _ByteTables(find_text, hidden)
    return _PieceTables(find_text, hidden, plan)


def plain_bytes(plan: BytePlan | PiecePlan, token: str) -> bytes:
    """The bytes a token stands for on its own and in mid-text."""
    if isinstance(plan, BytePlan):
        return token_to_bytes(token)
    piece = _text_or_byte(plan, plan.rest(token))
    return piece.encode() if isinstance(piece, str) else bytes([piece])


class _ByteTables:
    """For ``ByteDetokenizer``."""

    def __init__(self, find_text: FindText, hidden: frozenset[str]) -> None:
        def find(token_id: int) -> str | bytes | None:
            token = find_text(token_id)
            if token is None or token in hidden:
                return None
            return _text_or_bytes(token)

        self._table: TokenTable[str | bytes] = TokenTable(find, "")

    def new_detokenizer(self) -> Detokenizer:
        return ByteDetokenizer(self._table)


class _PieceTables:
    """For ``PieceDetokenizer``."""

    def __init__(self, find_text: FindText, hidden: frozenset[str], plan: PiecePlan) -> None:
        def find(token_id: int) -> str | int | None:
            token = find_text(token_id)
            if token is None or token in hidden:
                return None
            return _text_or_byte(plan, plan.rest(token))

        self._plan = plan
        self._find_text = find_text
        self._pieces: TokenTable[str | int | None] = TokenTable(find, None)

    def _first(self, token_id: int) -> str | int:
        return _text_or_byte(self._plan, self._plan.first(self._find_text(token_id) or ""))

    def new_detokenizer(self) -> Detokenizer:
        plan = self._plan
        first = None if plan.first is plan.rest else self._first
        return PieceDetokenizer(self._pieces, first, plan.strip, plan.strip_count)


def _text_or_bytes(token: str) -> str | bytes:
    data = token_to_bytes(token)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return data
    # most tokens without a leading space are spelled as they read: share the string
    return token if text == token else text


def _text_or_byte(plan: PiecePlan, piece: str) -> str | int:
    byte = plan.byte_of(piece)
    return piece if byte is None else byte
