"""Token ids of prompts, remembering the parts that prompts share.

A chat prompt is a row of segments, each beginning with an added token: the system message, every
earlier turn, the question, the cue to answer. The tokenizer splits a text at such tokens before it
does anything else, so the ids of the whole are the ids of the segments in a row, and a system
message or a history that was seen before need not be tokenized again.

That only holds for added tokens that no neighbour can change, which is what ``find_boundaries``
decides. Each segment keeps the token it begins with, so that the text after it is never taken for
the beginning of a prompt (some tokenizers prepend a space there). A prompt without boundaries, such
as a plain completion, is encoded directly and not remembered.

Segments are remembered by a digest of their text: the text would take several times the memory of
its ids.
"""

from __future__ import annotations

import hashlib
import re
import threading
from array import array
from collections.abc import Callable, Collection, Iterable, Sequence

import msgspec

__all__ = ["AddedToken", "PromptEncoder", "find_boundaries"]

DEFAULT_CACHE_BYTES = 8 << 20
"""Memory for segments of one model; two million tokens, if segments are long."""

_ENTRY_BYTES = 250
"""Of each entry besides its ids: two objects and a place in a dictionary."""

EncodeBatch = Callable[[Sequence[str]], Sequence[list[int]]]
"""Encodes several texts, each on its own."""


class AddedToken(msgspec.Struct, frozen=True):
    """A token that the tokenizer finds in a text before splitting it.

    Attributes:
        text: Its spelling.
        plain: Whether it is matched in the text as it is: not in a normalized form of it, not only
            as a whole word, and without taking white space before it.
    """

    text: str
    plain: bool


def find_boundaries(candidates: Iterable[str], added_tokens: Collection[AddedToken]) -> list[str]:
    """Those of ``candidates`` at which a text can be cut without changing its ids.

    Such a token is plain, does not begin with a letter, digit or underscore (a word before it would
    end otherwise), is not just white space, and does not overlap with another added token: that one
    might be found in its place.
    """
    plain = {token.text for token in added_tokens if token.plain}
    others = [token.text for token in added_tokens]
    return [
        text
        for text in dict.fromkeys(candidates)
        if text in plain
        and text.strip()
        and not (text[0].isalnum() or text[0] == "_")
        and not any(_overlap(other, text) for other in others if other != text)
    ]


def _overlap(one: str, other: str) -> bool:
    """Whether there is a text in which both are found and share characters."""
    if one in other or other in one:
        return True
    return _runs_into(one, other) or _runs_into(other, one)


def _runs_into(one: str, other: str) -> bool:
    """Whether an end of ``one``, shorter than both, is a beginning of ``other``."""
    # A vocabulary has hundreds of added tokens: only where the first character is found is compared.
    at = one.find(other[0], 1)
    while at > 0:
        if other.startswith(one[at:]):
            return True
        at = one.find(other[0], at + 1)
    return False


class PromptEncoder:
    """Encodes prompts. May be used from several threads.

    Args:
        encode_batch: The tokenizer.
        boundaries: Tokens to cut at, from ``find_boundaries``.
        cache_bytes: Memory for remembered segments; what was not used for longest is forgotten.
    """

    def __init__(
        self,
        encode_batch: EncodeBatch,
        boundaries: Collection[str],
        *,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
    ) -> None:
        self._encode_batch = encode_batch
        self._find = (
            re.compile("|".join(map(re.escape, boundaries))).finditer if boundaries else None
        )
        self._limit = cache_bytes
        self._size = 0
        self._segments: dict[bytes, array[int]] = {}
        self._lock = threading.Lock()

    @property
    def cached_bytes(self) -> int:
        """Memory the remembered segments take, roughly."""
        return self._size

    def encode(self, text: str) -> list[int]:
        """The ids of ``text``: exactly those the tokenizer gives for the whole.

        Raises:
            InvalidArgument: As the tokenizer does.
        """
        cuts = [match.start() for match in self._find(text)] if self._find is not None else ()
        if not cuts:
            return self._encode_batch((text,))[0]
        segments = [text[start:end] for start, end in zip(cuts, [*cuts[1:], None], strict=True)]
        if cuts[0]:
            segments.insert(0, text[: cuts[0]])
        return self._join(segments)

    def _join(self, segments: list[str]) -> list[int]:
        digests = [_digest(segment) for segment in segments]
        known = self._recall(digests)
        missing = [number for number, ids in enumerate(known) if ids is None]
        if not missing:
            token_ids: list[int] = []
            for found in known:
                token_ids += found or ()
            return token_ids
        encoded = self._encode_batch([segments[number] for number in missing])
        self._remember([digests[number] for number in missing], encoded)
        fresh = iter(encoded)
        return [token_id for ids in known for token_id in (next(fresh) if ids is None else ids)]

    def _recall(self, digests: list[bytes]) -> list[array[int] | None]:
        remembered = self._segments
        with self._lock:
            known = []
            for digest in digests:
                ids = remembered.pop(digest, None)
                if ids is not None:
                    remembered[digest] = ids  # now the youngest
                known.append(ids)
        return known

    def _remember(self, digests: list[bytes], encoded: Sequence[list[int]]) -> None:
        with self._lock:
            for digest, token_ids in zip(digests, encoded, strict=True):
                ids = array("I", token_ids)
                size = _size(ids)
                if size * 4 > self._limit or digest in self._segments:
                    continue
                self._segments[digest] = ids
                self._size += size
            while self._size > self._limit:
                oldest = next(iter(self._segments))
                self._size -= _size(self._segments.pop(oldest))


def _digest(segment: str) -> bytes:
    # Of a lone surrogate too: the tokenizer is to refuse it.
    text = segment.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=32).digest()


def _size(ids: array[int]) -> int:
    return ids.itemsize * len(ids) + _ENTRY_BYTES
