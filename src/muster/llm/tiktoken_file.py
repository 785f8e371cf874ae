"""tiktoken files: ranks of byte strings, made into a tokenizer of the ``tokenizers`` package.

Each line is a token in base64, a space, and its rank, which is its id too (``qwen.tiktoken``,
``tiktoken.model``; also the ``tokenizer.model`` of Llama 3 and GLM 4). See ``tiktoken_family`` for
what else is needed.
"""

from __future__ import annotations

import base64
import binascii
import logging
import re
from collections.abc import Mapping
from typing import Any

import msgspec
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from muster.errors import CardError
from muster.llm.decoder import bytes_to_token
from muster.llm.generation import special_token_text
from muster.llm.merges import find_merges
from muster.llm.tiktoken_family import Family

__all__ = ["build_tiktoken", "is_tiktoken", "read_ranks"]

logger = logging.getLogger(__name__)

_LINE = re.compile(rb"[A-Za-z0-9+/]+={0,2} \d{1,9}\s*")

_NO_TOKEN = "<no token for this byte>"  # noqa: S105 - not a secret
"""Not in any vocabulary, so that a byte without a token is an error rather than dropped."""

_MAX_ID = 1 << 24


class _Added(msgspec.Struct, frozen=True, kw_only=True):
    token_id: int
    text: str
    entry: Mapping[str, Any]


def is_tiktoken(data: bytes) -> bool:
    """Whether a file's first line is one of a tiktoken file."""
    return _LINE.fullmatch(data[:4096].partition(b"\n")[0]) is not None


def read_ranks(data: bytes) -> dict[bytes, int]:
    """The ranks in a tiktoken file, by token, lowest first.

    Raises:
        CardError: If a line is not one, or a token or rank is there twice; says which line.
    """
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        try:
            text, rank = line.split()
            token, value = base64.b64decode(text, validate=True), int(rank)
        except (ValueError, binascii.Error) as error:
            raise CardError(f"line {number} is not a token in base64 and a rank") from error
        if not token or not 0 <= value <= _MAX_ID or token in ranks:
            raise CardError(f"line {number} has an empty or repeated token, or a rank out of range")
        ranks[token] = value
    if len(set(ranks.values())) != len(ranks) or not ranks:
        raise CardError("there are no tokens, or two of them have the same rank")
    return dict(sorted(ranks.items(), key=lambda item: item[1]))


def build_tiktoken(
    ranks: Mapping[bytes, int], family: Family, added_tokens: Mapping[str, Any]
) -> tokenizers.Tokenizer:
    """A tokenizer that gives the ids tiktoken gives with these ranks.

    Args:
        ranks: From ``read_ranks``.
        family: How to split, and what special tokens there are.
        added_tokens: ``added_tokens_decoder`` of tokenizer_config.json: by id as text, objects
            with ``content`` and flags.
    """
    vocabulary = {bytes_to_token(token): rank for token, rank in ranks.items()}
    merges = [
        (bytes_to_token(left), bytes_to_token(right)) for left, right in find_merges(ranks, ranks)
    ]
    # Ids are not assigned by the library but said here, since there may be holes between them.
    added = _added(vocabulary, family, added_tokens)
    vocabulary.update((token.text, token.token_id) for token in added)
    hf = tokenizers.Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, ignore_merges=True, unk_token=_NO_TOKEN)
    )
    if family.composes:
        hf.normalizer = normalizers.NFC()
    hf.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(family.pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    hf.decoder = decoders.ByteLevel()
    for token in added:
        _register(hf, token)
    return hf


def _added(
    vocabulary: Mapping[str, int], family: Family, added_tokens: Mapping[str, Any]
) -> list[_Added]:
    taken = set(vocabulary.values())
    texts = set(vocabulary)
    found: list[_Added] = []

    def take(token_id: int, text: str, entry: Mapping[str, Any]) -> None:
        if (token_id in taken or text in texts) and vocabulary.get(text) != token_id:
            logger.warning("the added token %r (id %d) is in the ranks already", text, token_id)
            return
        taken.add(token_id)
        texts.add(text)
        found.append(_Added(token_id=token_id, text=text, entry=entry))

    for key, entry in added_tokens.items():
        text = special_token_text(entry)
        if key.isdecimal() and int(key) <= _MAX_ID and text is not None:
            take(int(key), text, entry if isinstance(entry, Mapping) else {"special": True})
    first = max(vocabulary.values()) + 1
    for token_id, name in enumerate(family.reserved, first):
        text = name.format(token_id)
        if token_id not in taken and text not in texts:
            take(token_id, text, {"special": True})
    return found


def _register(hf: tokenizers.Tokenizer, token: _Added) -> None:
    special = token.entry.get("special") is True
    added = tokenizers.AddedToken(
        token.text,
        single_word=token.entry.get("single_word") is True,
        lstrip=token.entry.get("lstrip") is True,
        rstrip=token.entry.get("rstrip") is True,
        normalized=False,
        special=special,
    )
    hf.add_special_tokens([added]) if special else hf.add_tokens([added])
