"""A model's tokenizer.json: text to ids, ids to text.

The work is done by the ``tokenizers`` package; this module adds what streams need (tables from id
to text, made once at loading), the special tokens that only tokenizer_config.json knows, and errors
of our own. Loading takes a few tenths of a second for a large vocabulary: call it in a thread. A
loaded tokenizer is immutable and may be used from several threads.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, assert_never

import tokenizers

from muster.errors import CardError, EngineError, InvalidArgument, MusterError
from muster.llm.decoder import (
    BytePlan,
    PiecePlan,
    WholePlan,
    plan_decoder,
    token_to_bytes,
)
from muster.llm.detokenizer import (
    ByteDetokenizer,
    Detokenizer,
    PieceDetokenizer,
    WholeDetokenizer,
)
from muster.llm.generation import special_token_text

__all__ = ["Tokenizer"]

logger = logging.getLogger(__name__)

_MAX_TOKEN_ID = (1 << 32) - 1


class _Vocabulary:
    """Which id is which token, and which of them are special."""

    def __init__(self, hf: tokenizers.Tokenizer) -> None:
        added = hf.get_added_tokens_decoder()
        self.tokens = _tokens_by_id(hf)
        self.tokens.update({token_id: token.content for token_id, token in added.items()})
        self.size = max(self.tokens, default=-1) + 1
        # Special is a property of the text: that is how the library decides what to skip.
        self.special_texts = {token.content for token in added.values() if token.special}
        self.special_ids = frozenset(
            token_id for token_id, token in self.tokens.items() if token in self.special_texts
        )

    def shown(self, *, skip_special_tokens: bool) -> Iterator[tuple[int, str]]:
        """All tokens that have a text."""
        for token_id, token in self.tokens.items():
            if not (skip_special_tokens and token_id in self.special_ids):
                yield token_id, token


class _ByteTables:
    """Tables for ``ByteDetokenizer``."""

    def __init__(self, vocabulary: _Vocabulary, *, skip_special_tokens: bool) -> None:
        self._texts: dict[int, str] = dict.fromkeys(vocabulary.tokens, "")
        self._parts: dict[int, bytes] = {}
        for token_id, token in vocabulary.shown(skip_special_tokens=skip_special_tokens):
            data = token_to_bytes(token)
            try:
                text = data.decode()
                # most tokens without a leading space are spelled as they read: share the string
                self._texts[token_id] = token if text == token else text
            except UnicodeDecodeError:
                self._parts[token_id] = data
                del self._texts[token_id]

    def new_detokenizer(self) -> Detokenizer:
        return ByteDetokenizer(self._texts, self._parts)


class _PieceTables:
    """Tables for ``PieceDetokenizer``."""

    def __init__(
        self, vocabulary: _Vocabulary, plan: PiecePlan, *, skip_special_tokens: bool
    ) -> None:
        self._plan = plan
        self._tokens = vocabulary.tokens
        self._pieces: dict[int, str | int] = {}
        for token_id, token in vocabulary.shown(skip_special_tokens=skip_special_tokens):
            piece = plan.rest(token)
            byte = plan.byte_of(piece)
            self._pieces[token_id] = piece if byte is None else byte

    def _first(self, token_id: int) -> str | int:
        piece = self._plan.first(self._tokens[token_id])
        byte = self._plan.byte_of(piece)
        return piece if byte is None else byte

    def new_detokenizer(self) -> Detokenizer:
        plan = self._plan
        first = None if plan.first is plan.rest else self._first
        return PieceDetokenizer(self._pieces, first, plan.strip, plan.strip_count)


class _Whole:
    """For decoders that cannot be streamed."""

    def __init__(self, tokenizer: Tokenizer, *, skip_special_tokens: bool) -> None:
        self._tokenizer = tokenizer
        self._skip = skip_special_tokens

    def _decode(self, token_ids: Sequence[int]) -> str:
        return self._tokenizer.decode(token_ids, skip_special_tokens=self._skip)

    def new_detokenizer(self) -> Detokenizer:
        return WholeDetokenizer(self._decode)


class Tokenizer:
    """A loaded tokenizer. Make one with ``load``."""

    def __init__(self, hf: tokenizers.Tokenizer, plan: BytePlan | PiecePlan | WholePlan) -> None:
        self._hf = hf
        self._plan = plan
        self._vocabulary = _Vocabulary(hf)
        self._tables = {True: self._make_tables(skip_special_tokens=True)}

    @classmethod
    def load(cls, path: Path, *, added_tokens: Mapping[str, Any] | None = None) -> Tokenizer:
        """Load a tokenizer.json.

        Args:
            path: The file.
            added_tokens: ``added_tokens_decoder`` of tokenizer_config.json. Tokens that
                tokenizer.json lacks, or does not mark as special, are added as it says.

        Raises:
            CardError: If the file cannot be read, is not a tokenizer.json, or is a tiktoken or
                SentencePiece file, which are not supported.
        """
        if path.name.endswith((".tiktoken", ".model")):
            raise CardError(
                f"{path} is a tiktoken or SentencePiece vocabulary, which is not supported",
                hint="publish the model with a tokenizer.json (transformers can write one)",
            )
        try:
            data = path.read_bytes()
        except OSError as error:
            raise CardError(f"cannot read {path}: {error.strerror or error}") from error
        with _foreign_errors(CardError, f"{path} is not a usable tokenizer.json"):
            hf = tokenizers.Tokenizer.from_buffer(data)
            # A file may ask for truncation or padding; a prompt gets neither.
            hf.no_truncation()
            hf.no_padding()
            _add_tokens(hf, added_tokens or {})
            state = hf.decoder.__getstate__() if hf.decoder is not None else b"null"
            plan = plan_decoder(json.loads(state))
            if isinstance(plan, WholePlan):
                logger.warning(
                    "%s: %s cannot be streamed; replies come in one piece at their end",
                    path,
                    plan.reason,
                )
            return cls(hf, plan)

    @property
    def vocab_size(self) -> int:
        """One more than the highest id."""
        return self._vocabulary.size

    @property
    def special_ids(self) -> frozenset[int]:
        """Ids of special tokens: those ``skip_special_tokens`` leaves out."""
        return self._vocabulary.special_ids

    @property
    def special_tokens(self) -> frozenset[str]:
        """Texts of the special tokens."""
        return frozenset(self._vocabulary.special_texts)

    @property
    def streams(self) -> bool:
        """Whether text comes token by token (false for a few exotic decoders)."""
        return not isinstance(self._plan, WholePlan)

    def find_token(self, text: str) -> int | None:
        """The id of the token spelled ``text``, or ``None``."""
        return self._hf.token_to_id(text)

    def find_text(self, token_id: int) -> str | None:
        """The spelling of a token in the vocabulary, or ``None`` for an id nobody has."""
        return self._vocabulary.tokens.get(token_id)

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes one token stands for, on its own and in mid-text; empty for an unknown id.

        May be part of a UTF-8 sequence. For logprobs, and for engines that pick printable tokens.
        """
        token = self._vocabulary.tokens.get(token_id)
        if token is None:
            return b""
        match self._plan:
            case BytePlan():
                return token_to_bytes(token)
            case PiecePlan() as plan:
                piece = plan.rest(token)
                byte = plan.byte_of(piece)
                return piece.encode() if byte is None else bytes([byte])
            case WholePlan():
                return self.decode([token_id], skip_special_tokens=False).encode()
            case unreachable:
                assert_never(unreachable)

    def encode(self, text: str) -> list[int]:
        """The ids of ``text``. No special tokens are added; those spelled in the text become ids.

        Releases the interpreter lock while it works: run long texts in a thread.

        Raises:
            InvalidArgument: If the text holds lone surrogates, or characters this tokenizer refuses.
        """
        with _foreign_errors(InvalidArgument, "the text cannot be tokenized"):
            # The batch call skips the bookkeeping of offsets: a quarter to a third faster.
            return self._hf.encode_batch_fast([text], add_special_tokens=False)[0].ids

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of ``token_ids``, decoded at once. Unknown ids have no text.

        Raises:
            EngineError: If the decoder fails on them.
        """
        known = [token_id for token_id in token_ids if 0 <= token_id <= _MAX_TOKEN_ID]
        with _foreign_errors(EngineError, "the tokens cannot be decoded"):
            return self._hf.decode(known, skip_special_tokens=skip_special_tokens)

    def new_detokenizer(self, *, skip_special_tokens: bool = True) -> Detokenizer:
        """A decoding state for one stream.

        The tables without skipping are made on the first such call (tenths of a second for a large
        vocabulary), those with skipping at loading.
        """
        tables = self._tables.get(skip_special_tokens)
        if tables is None:
            tables = self._make_tables(skip_special_tokens=skip_special_tokens)
            self._tables[skip_special_tokens] = tables
        return tables.new_detokenizer()

    def _make_tables(self, *, skip_special_tokens: bool) -> _ByteTables | _PieceTables | _Whole:
        match self._plan:
            case BytePlan():
                return _ByteTables(self._vocabulary, skip_special_tokens=skip_special_tokens)
            case PiecePlan() as plan:
                return _PieceTables(self._vocabulary, plan, skip_special_tokens=skip_special_tokens)
            case WholePlan():
                return _Whole(self, skip_special_tokens=skip_special_tokens)
            case unreachable:
                assert_never(unreachable)


def _tokens_by_id(hf: tokenizers.Tokenizer) -> dict[int, str]:
    """Every id's token. Asking id by id is the cheap way, when there are no holes."""
    size = hf.get_vocab_size(with_added_tokens=True)
    found = {token_id: hf.id_to_token(token_id) for token_id in range(size)}
    if None in found.values():
        vocabulary = hf.get_vocab(with_added_tokens=True)
        found |= {token_id: hf.id_to_token(token_id) for token_id in vocabulary.values()}
    return {token_id: token for token_id, token in found.items() if token is not None}


def _add_tokens(hf: tokenizers.Tokenizer, added_tokens: Mapping[str, Any]) -> None:
    known = hf.get_added_tokens_decoder()
    special_texts = {token.content for token in known.values() if token.special}
    entries = [
        (int(key), entry)
        for key, entry in added_tokens.items()
        if key.isdecimal() and isinstance(entry, Mapping)
    ]
    for _, entry in sorted(entries, key=lambda pair: pair[0]):
        text = special_token_text(entry)
        special = entry.get("special") is True
        if text is None or text in special_texts:
            continue
        if not special and hf.token_to_id(text) is not None:
            continue
        token = tokenizers.AddedToken(
            text,
            single_word=entry.get("single_word") is True,
            lstrip=entry.get("lstrip") is True,
            rstrip=entry.get("rstrip") is True,
            normalized=entry.get("normalized", not special) is True,
            special=special,
        )
        hf.add_special_tokens([token]) if special else hf.add_tokens([token])


@contextlib.contextmanager
def _foreign_errors(error_type: type[MusterError], message: str) -> Iterator[None]:
    """Turn whatever the library raises into our own error.

    It raises plain ``Exception``, and when its Rust code panics something that is not even one.
    """
    try:
        yield
    except MusterError:
        raise
    except BaseException as error:
        panic = type(error).__name__ == "PanicException"
        if panic or isinstance(error, Exception):
            raise error_type(f"{message}: {error}") from error
        raise
