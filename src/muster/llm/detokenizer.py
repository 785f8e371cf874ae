"""Text from a stream of token ids, as soon as it is certain and never before.

For any split of any sequence of ids, what ``push`` and the final ``flush`` return joins to exactly
what the ``tokenizers`` package decodes from all ids at once. A UTF-8 sequence is never cut; what is
incomplete at the end becomes U+FFFD. A reply starts a text of its own: a leading space that the
decoder removes at the start of a text is removed at the start of the reply too, whatever the prompt
ended with (Dynamo does the same for chat).

This is the hottest code of the frontend: one dictionary look-up for most tokens.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

__all__ = ["ByteDetokenizer", "Detokenizer", "PieceDetokenizer", "WholeDetokenizer"]


class Detokenizer(Protocol):
    """One stream's decoding state. Not to be shared between streams."""

    def push(self, token_ids: Sequence[int]) -> str:
        """Take the next ids; return the text that is certain now. Unknown ids have no text."""
        ...

    def flush(self) -> str:
        """Return what is left at the end. The stream is over: push no more."""
        ...


class ByteDetokenizer:
    """For vocabularies of bytes (ByteLevel): GPT-2, Llama 3, Qwen, DeepSeek, ...

    Args:
        texts: Tokens whose bytes are complete UTF-8 on their own, as text.
        parts: All other tokens' bytes. An id in neither has no text.
    """

    __slots__ = ("_parts", "_pending", "_texts")

    def __init__(self, texts: Mapping[int, str], parts: Mapping[int, bytes]) -> None:
        self._texts = texts
        self._parts = parts
        self._pending = b""

    def push(self, token_ids: Sequence[int]) -> str:
        """Take the next ids; return the text that is certain now."""
        if not self._pending:
            try:
                if len(token_ids) == 1:
                    return self._texts[token_ids[0]]
                return "".join([self._texts[token_id] for token_id in token_ids])
            except KeyError:
                pass
        return self._push_bytes(token_ids)

    def _push_bytes(self, token_ids: Sequence[int]) -> str:
        data = self._pending + b"".join([self._bytes(token_id) for token_id in token_ids])
        text, used = codecs.utf_8_decode(data, "replace", False)
        self._pending = data[used:]
        return text

    def _bytes(self, token_id: int) -> bytes:
        text = self._texts.get(token_id)
        return self._parts.get(token_id, b"") if text is None else text.encode()

    def flush(self) -> str:
        """Return U+FFFD for a UTF-8 sequence that was never completed."""
        text, _ = codecs.utf_8_decode(self._pending, "replace", True)
        self._pending = b""
        return text


class PieceDetokenizer:
    """For vocabularies of text pieces: SentencePiece's kin, WordPiece, word lists.

    Args:
        pieces: Each token's text, or its byte if it is a byte token. An id that is absent has no
            text and does not count as the first token.
        first: Makes the first token's piece from its id; ``None`` if it is like all others.
        strip: Character of which up to ``strip_count`` are removed at the start of the text.
        strip_count: See ``strip``.
    """

    __slots__ = ("_first", "_pieces", "_run", "_strip", "_strip_left")

    def __init__(
        self,
        pieces: Mapping[int, str | int],
        first: Callable[[int], str | int] | None,
        strip: str,
        strip_count: int,
    ) -> None:
        self._pieces = pieces
        self._first = first
        self._strip = strip
        self._strip_left = strip_count
        self._run = bytearray()

    def push(self, token_ids: Sequence[int]) -> str:
        """Take the next ids; return the text that is certain now: all but a run of byte tokens."""
        out = []
        for token_id in token_ids:
            piece = self._pieces.get(token_id)
            if piece is None:
                continue
            if self._first is not None:
                piece = self._first(token_id)
                self._first = None
            if isinstance(piece, int):
                self._run.append(piece)
                continue
            if self._run:
                out.append(self._end_run())
            out.append(piece)
        text = "".join(out)
        return self._strip_start(text) if self._strip_left and text else text

    def _end_run(self) -> str:
        try:
            text = self._run.decode()
        except UnicodeDecodeError:
            text = "\N{REPLACEMENT CHARACTER}" * len(self._run)
        self._run.clear()
        return text

    def _strip_start(self, text: str) -> str:
        while self._strip_left and text.startswith(self._strip):
            text = text[1:]
            self._strip_left -= 1
        if text:
            self._strip_left = 0
        return text

    def flush(self) -> str:
        """Return the last run of byte tokens, if the text ends with one."""
        text = self._end_run()
        return self._strip_start(text) if self._strip_left else text


class WholeDetokenizer:
    """For decoders whose text is not certain before the last token: all of it comes from ``flush``.

    Args:
        decode: Decodes all ids at once.
    """

    __slots__ = ("_decode", "_ids")

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._ids: list[int] = []

    def push(self, token_ids: Sequence[int]) -> str:
        """Keep the ids; nothing is certain yet."""
        self._ids.extend(token_ids)
        return ""

    def flush(self) -> str:
        """Return the whole text."""
        text = self._decode(self._ids)
        self._ids = []
        return text
