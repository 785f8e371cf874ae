"""Text from a stream of token ids, as soon as it is certain and never before.

For any split of any sequence of ids, what ``push`` and the final ``flush`` return joins to exactly
what the ``tokenizers`` package decodes from all ids at once. A UTF-8 sequence is never cut; what is
incomplete at the end becomes U+FFFD. A reply starts a text of its own: a leading space that the
decoder removes at the start of a text is removed at the start of the reply too, whatever the prompt
ended with (Dynamo does the same for chat).

This is the hottest code of the frontend: one look-up in a table for most tokens.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

__all__ = ["ByteDetokenizer", "Detokenizer", "PieceDetokenizer", "TokenTable", "WholeDetokenizer"]

T = TypeVar("T")


class Detokenizer(Protocol):
    """One stream's decoding state. Not to be shared between streams."""

    def push(self, token_ids: Sequence[int]) -> str:
        """Take the next ids; return the text that is certain now. Unknown ids have no text."""
        ...

    def flush(self) -> str:
        """Return what is left at the end. The stream is over: push no more."""
        ...


class TokenTable(dict[int, T], Generic[T]):
    """What each token stands for, by id, looked up when it is first needed and kept.

    A table of a whole vocabulary takes tenths of a second and tens of megabytes, for the few thousand
    tokens that replies are made of. May be shared by threads: two that miss store the same.

    Args:
        find: What an id stands for; ``None`` for an id nobody has.
        absent: What such an id gives; it is not kept, so engines cannot fill the memory with them.
    """

    __slots__ = ("_absent", "_find")

    def __init__(self, find: Callable[[int], T | None], absent: T) -> None:
        super().__init__()
        self._find = find
        self._absent = absent

    def __missing__(self, token_id: int) -> T:
        found = self._find(token_id)
        if found is None:
            return self._absent
        self[token_id] = found
        return found


class ByteDetokenizer:
    """For vocabularies of bytes (ByteLevel): GPT-2, Llama 3, Qwen, DeepSeek, ...

    Args:
        table: By id, for any id: the token's text if its bytes are complete UTF-8 on their own, else
            its bytes; empty for ids that have no text. See ``TokenTable``.
    """

    __slots__ = ("_pending", "_table")

    def __init__(self, table: Mapping[int, str | bytes]) -> None:
        self._table = table
        self._pending = b""

    def push(self, token_ids: Sequence[int]) -> str:
        """Take the next ids; return the text that is certain now."""
        table = self._table
        if not self._pending and token_ids:
            if len(token_ids) == 1:
                text = table[token_ids[0]]
                if text.__class__ is str:
                    return text
            else:
                try:
                    # invariant: bytes in the list make the join fail, and the slow way is taken
                    return "".join([table[token_id] for token_id in token_ids])  # type: ignore[misc] # as said
                except TypeError:
                    pass
        return self._push_bytes(token_ids)

    def _push_bytes(self, token_ids: Sequence[int]) -> str:
        data = self._pending + b"".join([self._bytes(token_id) for token_id in token_ids])
        text, used = codecs.utf_8_decode(data, "replace", False)
        self._pending = data[used:]
        return text

    def _bytes(self, token_id: int) -> bytes:
        entry = self._table[token_id]
        return entry.encode() if isinstance(entry, str) else entry

    def flush(self) -> str:
        """Return U+FFFD for a UTF-8 sequence that was never completed."""
        text, _ = codecs.utf_8_decode(self._pending, "replace", True)
        self._pending = b""
        return text


class PieceDetokenizer:
    """For vocabularies of text pieces: SentencePiece's kin, WordPiece, word lists.

    Args:
        pieces: By id, for any id: the token's text, or its byte if it is a byte token. ``None`` for
            ids that have no text; they do not count as the first token. See ``TokenTable``.
        first: Makes the first token's piece from its id; ``None`` if it is like all others.
        strip: Character of which up to ``strip_count`` are removed at the start of the text.
        strip_count: See ``strip``.
    """

    __slots__ = ("_first", "_pieces", "_run", "_strip", "_strip_left")

    def __init__(
        self,
        pieces: Mapping[int, str | int | None],
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
        pieces = self._pieces
        for token_id in token_ids:
            piece = pieces[token_id]
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
