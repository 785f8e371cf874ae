"""SentencePiece models (``tokenizer.model``), made into a tokenizer of the ``tokenizers`` package.

Ids are those that SentencePiece gives for a text without added tokens (of two ways with the same
score, a unigram model may take the other: that is a matter of rounding). It has no notion of
finding a control symbol in a text: like ``transformers``, this cuts a text at them first, and reads
only the beginning of the whole as if a space came before it (every part, if tokenizer_config.json
says ``legacy``, or if the model trims spaces).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from muster.errors import CardError
from muster.llm.merges import find_merges
from muster.llm.sentencepiece_proto import Algorithm, Piece, PieceKind, SentencePieceModel

__all__ = ["MARK", "build_sentencepiece", "reads_leading_space"]

MARK = "\N{LOWER ONE EIGHTH BLOCK}"
"""How SentencePiece writes a space."""

_NEVER = -1e6
"""Score of pieces that no text is to be cut into, far below what a text of single characters has."""


def build_sentencepiece(
    model: SentencePieceModel, tokenizer_config: Mapping[str, Any]
) -> tokenizers.Tokenizer:
    """A tokenizer that cuts a text as SentencePiece does with this model.

    Args:
        model: From ``read_sentencepiece``.
        tokenizer_config: The parsed tokenizer_config.json, for ``legacy`` and ``add_prefix_space``.

    Raises:
        CardError: If the model uses what cannot be had from the ``tokenizers`` package: words or
            characters as units, spaces after words, spaces left as they are.
    """
    if model.algorithm not in (Algorithm.BPE, Algorithm.UNIGRAM):
        raise CardError(
            f"SentencePiece models of the kind {model.algorithm.name} are not supported"
        )
    if model.space_after_words or not model.marks_spaces:
        raise CardError(
            "SentencePiece models that do not mark spaces before words are not supported"
        )
    unknown = next((i for i, p in enumerate(model.pieces) if p.kind is PieceKind.UNKNOWN), None)
    if unknown is None:
        raise CardError("the SentencePiece model has no piece for unknown characters")
    bpe = model.algorithm is Algorithm.BPE
    hf = tokenizers.Tokenizer(_bpe(model, unknown) if bpe else _unigram(model, unknown))
    adds_prefix = _adds_prefix(model, tokenizer_config)
    first_only = reads_leading_space(model, tokenizer_config)
    hf.normalizer = _normalizer(model, prepend=adds_prefix and not first_only)
    if first_only:
        hf.pre_tokenizer = pre_tokenizers.Metaspace(MARK, prepend_scheme="first", split=False)
    steps = [decoders.Replace(MARK, " "), decoders.ByteFallback(), decoders.Fuse()]
    hf.decoder = decoders.Sequence(
        [*steps, decoders.Strip(" ", 1, 0)] if model.adds_prefix else steps
    )
    for piece in model.pieces:
        _register(hf, piece)
    return hf


def reads_leading_space(model: SentencePieceModel, tokenizer_config: Mapping[str, Any]) -> bool:
    """Whether only the beginning of a text gets a space before it.

    The library then takes a space that is there already for that one, and SentencePiece does not:
    the caller puts one more before such a text.
    """
    each_part = model.trims or tokenizer_config.get("legacy") is True
    return _adds_prefix(model, tokenizer_config) and not each_part


def _adds_prefix(model: SentencePieceModel, tokenizer_config: Mapping[str, Any]) -> bool:
    return model.adds_prefix and tokenizer_config.get("add_prefix_space") is not False


def _bpe(model: SentencePieceModel, unknown: int) -> models.Model:
    # the higher the score, the more preferred; the order of the file decides between equals
    normal = [piece for piece in model.pieces if piece.kind is PieceKind.NORMAL]
    normal.sort(key=lambda piece: -piece.score)
    ranks = {piece.text: float(rank) for rank, piece in enumerate(normal)}
    return models.BPE(
        vocab={piece.text: index for index, piece in enumerate(model.pieces)},
        merges=find_merges(ranks, ranks),
        unk_token=model.pieces[unknown].text,
        fuse_unk=True,
        byte_fallback=model.byte_fallback,
    )


def _unigram(model: SentencePieceModel, unknown: int) -> models.Model:
    # The library would also find pieces that only stand for something, spelled in the text.
    hidden = (PieceKind.BYTE, PieceKind.UNUSED)
    return models.Unigram(
        [(piece.text, _NEVER if piece.kind in hidden else piece.score) for piece in model.pieces],
        unk_id=unknown,
        byte_fallback=model.byte_fallback,
    )


def _normalizer(model: SentencePieceModel, *, prepend: bool) -> normalizers.Normalizer:
    steps: list[normalizers.Normalizer] = []
    if model.character_map:
        steps.append(normalizers.Precompiled(model.character_map))
    if model.trims:
        steps.append(normalizers.Replace(tokenizers.Regex(rf"\A +|[ {MARK}]+\z"), ""))
        steps.append(normalizers.Replace(tokenizers.Regex(" {2,}"), " "))
    if prepend:
        steps.append(normalizers.Prepend(MARK))
    steps.append(normalizers.Replace(" ", MARK))
    return normalizers.Sequence(steps)


def _register(hf: tokenizers.Tokenizer, piece: Piece) -> None:
    """Have the pieces found in a text that no algorithm may cut."""
    special = piece.kind in (PieceKind.CONTROL, PieceKind.UNKNOWN)
    if special or piece.kind is PieceKind.USER_DEFINED:
        added = tokenizers.AddedToken(piece.text, normalized=False, special=special)
        hf.add_special_tokens([added]) if special else hf.add_tokens([added])
