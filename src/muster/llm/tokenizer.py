"""A model's tokenizer: text to ids, ids to text.

The work is done by the ``tokenizers`` package; this module adds what streams need (tables from id
to text, filled as ids come up), the special tokens that only tokenizer_config.json knows, and errors
of our own. Loading takes a few tenths of a second for a large vocabulary: call it in a thread. A
loaded tokenizer is immutable and may be used from several threads.
"""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, assert_never

import tokenizers

from muster.errors import CardError, EngineError, InvalidArgument
from muster.llm.cut_points import can_be_cut, cut
from muster.llm.decoder import BytePlan, PiecePlan, WholePlan, plan_decoder
from muster.llm.detokenizer import Detokenizer, WholeDetokenizer
from muster.llm.free_memory import give_back
from muster.llm.prompt_encoder import AddedToken
from muster.llm.sentencepiece_model import MARK
from muster.llm.token_tables import DecodingTables, decoding_tables, plain_bytes
from muster.llm.tokenizer_file import RawTokenizer, foreign_errors, read_tokenizer

__all__ = ["Tokenizer"]

logger = logging.getLogger(__name__)

_MAX_TOKEN_ID = (1 << 32) - 1

_SPACES = (" ", MARK)

_LONG_CHARS = 16_384
"""Longer texts are encoded in pieces."""


class _Whole:
    """For decoders that cannot be streamed: no table."""

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode

    def new_detokenizer(self) -> Detokenizer:
        return WholeDetokenizer(self._decode)


class Tokenizer:
    """A loaded tokenizer. Make one with ``load``."""

    def __init__(self, raw: RawTokenizer, plan: BytePlan | PiecePlan | WholePlan) -> None:
        self._hf = hf = raw.loaded
        self._doubles_leading_space = raw.doubles_leading_space
        self._plan = plan
        added = hf.get_added_tokens_decoder()
        # Special is a property of the text: that is how the library decides what to skip.
        self._special_tokens = frozenset(token.content for token in added.values() if token.special)
        self._special_ids = frozenset(
            token_id for token_id, token in added.items() if token.content in self._special_tokens
        )
        self._tables = {skip: self._make_tables(skip_special_tokens=skip) for skip in (True, False)}
        self._cuts = not self._doubles_leading_space and can_be_cut(
            _state(hf.normalizer), _state(hf.pre_tokenizer), added.values()
        )

    @classmethod
    def load(
        cls,
        path: Path,
        *,
        tokenizer_config: Mapping[str, Any] | None = None,
        model_type: str | None = None,
    ) -> Tokenizer:
        """Load a tokenizer.json, a tiktoken file or a SentencePiece model.

        Args:
            path: The file.
            tokenizer_config: The parsed tokenizer_config.json. Tokens that the file lacks, or does
                not mark as special, are added as its ``added_tokens_decoder`` says; of tiktoken and
                SentencePiece files it also says how texts are treated.
            model_type: ``model_type`` of config.json, by which families of tiktoken files are told
                apart.

        Raises:
            CardError: If the file cannot be read, or is none of these; says which file.
        """
        raw = read_tokenizer(path, tokenizer_config=tokenizer_config or {}, model_type=model_type)
        with foreign_errors(CardError, f"{path} is not a usable tokenizer"):
            plan = plan_decoder(_state(raw.loaded.decoder))
            if isinstance(plan, WholePlan):
                logger.warning(
                    "%s: %s cannot be streamed; replies come in one piece at their end",
                    path,
                    plan.reason,
                )
            tokenizer = cls(raw, plan)
        give_back()
        return tokenizer

    @functools.cached_property
    def vocab_size(self) -> int:
        """One more than the highest id; counted when it is first asked for."""
        return _count_ids(self._hf)

    @property
    def special_ids(self) -> frozenset[int]:
        """Ids of special tokens: those ``skip_special_tokens`` leaves out."""
        return self._special_ids

    @property
    def special_tokens(self) -> frozenset[str]:
        """Texts of the special tokens."""
        return self._special_tokens

    @property
    def streams(self) -> bool:
        """Whether text comes token by token (false for a few exotic decoders)."""
        return not isinstance(self._plan, WholePlan)

    def added_tokens(self) -> list[AddedToken]:
        """The tokens found in a text before it is split."""
        normalizer = _state(self._hf.normalizer)
        changes_text = normalizer not in (None, {"type": "Sequence", "normalizers": []})
        return [
            AddedToken(
                token.content,
                not (token.single_word or token.lstrip or (token.normalized and changes_text)),
            )
            for token in self._hf.get_added_tokens_decoder().values()
        ]

    def find_token(self, text: str) -> int | None:
        """The id of the token spelled ``text``, or ``None``."""
        return self._hf.token_to_id(text)

    def find_text(self, token_id: int) -> str | None:
        """The spelling of a token in the vocabulary, or ``None`` for an id nobody has."""
        return self._hf.id_to_token(token_id) if 0 <= token_id <= _MAX_TOKEN_ID else None

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes one token stands for, on its own and in mid-text; empty for an unknown id.

        May be part of a UTF-8 sequence. For logprobs, and for engines that pick printable tokens.
        """
        token = self.find_text(token_id)
        if token is None:
            return b""
        match self._plan:
            case BytePlan() | PiecePlan() as plan:
                return plain_bytes(plan, token)
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
        return self.encode_batch((text,))[0]

    def encode_batch(
        self, texts: Sequence[str], *, add_special_tokens: bool = False
    ) -> list[list[int]]:
        """The ids of each text on its own; see ``encode``.

        Args:
            texts: The texts.
            add_special_tokens: Whether each gets the tokens that the file puts around a text.

        Raises:
            InvalidArgument: As ``encode``, if one of them cannot be encoded.
        """
        with foreign_errors(InvalidArgument, "the text cannot be tokenized"):
            if self._doubles_leading_space:
                texts = [MARK + text if text[:1] in _SPACES else text for text in texts]
            if self._cuts and not add_special_tokens:
                whole = [text for text in texts if len(text) <= _LONG_CHARS]
                if len(whole) != len(texts):
                    short = iter(self._encode(whole, add_special_tokens=False))
                    return [
                        self._encode_pieces(text) if len(text) > _LONG_CHARS else next(short)
                        for text in texts
                    ]
            return self._encode(texts, add_special_tokens=add_special_tokens)

    def _encode(self, texts: Sequence[str], *, add_special_tokens: bool) -> list[list[int]]:
        # The batch call skips the bookkeeping of offsets: a quarter to a third faster.
        encodings = self._hf.encode_batch_fast(list(texts), add_special_tokens=add_special_tokens)
        return [encoding.ids for encoding in encodings]

    def _encode_pieces(self, text: str) -> list[int]:
        token_ids: list[int] = []
        for piece in cut(text):
            token_ids += self._encode((piece,), add_special_tokens=False)[0]
        return token_ids

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of ``token_ids``, decoded at once. Unknown ids have no text.

        Raises:
            EngineError: If the decoder fails on them.
        """
        known = [token_id for token_id in token_ids if 0 <= token_id <= _MAX_TOKEN_ID]
        with foreign_errors(EngineError, "the tokens cannot be decoded"):
            return self._hf.decode(known, skip_special_tokens=skip_special_tokens)

    def new_detokenizer(self, *, skip_special_tokens: bool = True) -> Detokenizer:
        """A decoding state for one stream."""
        return self._tables[skip_special_tokens].new_detokenizer()

    def _make_tables(self, *, skip_special_tokens: bool) -> DecodingTables:
        hidden = self._special_tokens if skip_special_tokens else frozenset[str]()
        match self._plan:
            case BytePlan() | PiecePlan() as plan:
                return decoding_tables(plan, self.find_text, hidden)
            case WholePlan():
                return _Whole(
                    functools.partial(self.decode, skip_special_tokens=skip_special_tokens)
                )
            case unreachable:
                assert_never(unreachable)


def _state(part: Any) -> Any:
    """A part of a tokenizer as tokenizer.json has it; ``None`` for none."""
    return None if part is None else json.loads(part.__getstate__())


def _count_ids(hf: tokenizers.Tokenizer) -> int:
    """One more than the highest id. Where ids have holes between them, that is not their number."""
    size = hf.get_vocab_size()
    if None not in map(hf.id_to_token, range(size)):
        return size
    return max(hf.get_vocab().values()) + 1
