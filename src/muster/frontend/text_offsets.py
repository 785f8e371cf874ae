"""Where in a text its tokens begin. Pure."""

from __future__ import annotations

from collections.abc import Callable

from muster.llm.detokenizer import Detokenizer, WholeDetokenizer

__all__ = ["TextOffsets"]


class TextOffsets:
    """Counts the characters before each token of one text, as its tokens come.

    A token that ends a character begun by another begins where that character does; one that is not
    shown (end of sequence, skipped special tokens) takes no room. Where the decoder says no text
    before its end, every token is taken for as long as it is on its own.

    Args:
        detokenizer: A fresh one of the same kind as the text's.
        token_bytes: The bytes a token stands for on its own.
        start: Characters before the first token.
    """

    __slots__ = ("_detokenizer", "_pending", "_position", "_token_bytes", "_whole")

    def __init__(
        self, detokenizer: Detokenizer, token_bytes: Callable[[int], bytes], start: int = 0
    ) -> None:
        self._detokenizer = detokenizer
        self._token_bytes = token_bytes
        self._position = start
        self._pending = False
        self._whole = isinstance(detokenizer, WholeDetokenizer)

    def next(self, token_id: int) -> int:
        """Take the next token; returns how many characters are before it."""
        begin = self._position
        if self._whole:
            self._position += len(self._spell(token_id))
            return begin
        text = self._detokenizer.push((token_id,))
        self._position += len(text)
        if self._pending and text:
            # What was held back came out with it: its own text is the end, unless it is the rest of
            # a character.
            own = self._spell(token_id)
            if own and len(own) < len(text) and text.endswith(own):
                begin = self._position - len(own)
        self._pending = not text and bool(self._token_bytes(token_id))
        return begin

    def _spell(self, token_id: int) -> str:
        return self._token_bytes(token_id).decode(errors="replace")
