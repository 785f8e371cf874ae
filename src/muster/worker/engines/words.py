"""The words a simulated engine speaks with, read from a tokenizer.json without the library.

The library takes a second's quarter and sixty megabytes for a large vocabulary; a mock needs some
thousand spellings.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import msgspec

from muster.errors import CardError
from muster.llm.decoder import BytePlan, PiecePlan, WholePlan, plan_decoder
from muster.llm.detokenizer import Detokenizer
from muster.llm.token_tables import DecodingTables, decoding_tables, plain_bytes
from muster.worker.engines.vocabulary import ENOUGH_WORDS, choose_words

__all__ = ["Words", "read_words"]

_COMMON = 16384
"""Ids below are looked at first: trained vocabularies begin with what is frequent."""


class _Added(msgspec.Struct, frozen=True):
    id: int
    content: str
    special: bool = False


class _Model(msgspec.Struct, frozen=True):
    vocab: dict[str, int] | list[tuple[str, float]] = {}


class _File(msgspec.Struct, frozen=True):
    model: _Model
    added_tokens: list[_Added] = []
    decoder: dict[str, Any] | None = None


class Words:
    """Ids that read well, and how they read.

    Args:
        ids: The ids.
        tables: Decodes them.
    """

    def __init__(self, ids: list[int], tables: DecodingTables) -> None:
        self.ids = ids
        self._tables = tables

    def new_detokenizer(self) -> Detokenizer:
        """A decoding state for one stream of these ids."""
        return self._tables.new_detokenizer()


def read_words(path: Path) -> Words:
    """The words of a tokenizer.json.

    Raises:
        CardError: If the file cannot be read or is no tokenizer.json, or no token has a printable
            text; says which file.
    """
    try:
        file = msgspec.json.decode(path.read_bytes(), type=_File)
    except (OSError, msgspec.MsgspecError, UnicodeError) as error:
        raise CardError(f"{path} is not a usable tokenizer: {error}") from error
    plan = plan_decoder(file.decoder)
    if isinstance(plan, WholePlan):
        return _with_library(path)
    spelled = _spellings(file)
    special = {token.id for token in file.added_tokens if token.special}
    every = sorted(spelled)
    ids: list[int] = []
    with contextlib.suppress(CardError):
        ids = _choose(plan, {i: spelled[i] for i in every if i < _COMMON}, special)
    if len(ids) < ENOUGH_WORDS:
        try:
            ids = _choose(plan, {i: spelled[i] for i in every}, special)
        except CardError as error:
            raise CardError(f"{path}: {error.message}") from error
    kept = {token_id: spelled[token_id] for token_id in ids}
    return Words(ids, decoding_tables(plan, kept.get))


def _choose(
    plan: BytePlan | PiecePlan, spelled: dict[int, str], special: Collection[int]
) -> list[int]:
    texts = [(i, plain_bytes(plan, token)) for i, token in spelled.items() if i not in special]
    return choose_words(texts)


def _spellings(file: _File) -> dict[int, str]:
    vocab = file.model.vocab
    if isinstance(vocab, dict):
        spelled = {token_id: token for token, token_id in vocab.items()}
    else:
        spelled = {token_id: token for token_id, (token, _) in enumerate(vocab)}
    return spelled | {token.id: token.content for token in file.added_tokens}


def _with_library(path: Path) -> Words:
    from muster.llm.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(path)
    every = range(tokenizer.vocab_size)
    special = tokenizer.special_ids
    texts = [(each, tokenizer.token_bytes(each)) for each in every if each not in special]
    return Words(choose_words(texts), tokenizer)
