"""Merges of a byte-pair encoding, from the ranks of its tokens.

tiktoken and SentencePiece store tokens in the order in which they are preferred, and merge whichever
neighbours make the most preferred token. The ``tokenizers`` package wants the pairs themselves, in
order. So every way to cut a token into two tokens is a merge, ranked as the token is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

__all__ = ["find_merges"]

T = TypeVar("T", str, bytes)


def find_merges(ranks: Mapping[T, float], tokens: Iterable[T]) -> list[tuple[T, T]]:
    """The pairs that make ``tokens``, the most preferred first.

    Args:
        ranks: By token: the lower, the more preferred. Both halves of a pair are among these.
        tokens: What may be made, in the order of their ranks.

    Between cuts of one token the order follows the ranks of the halves, save where two cuts can meet
    in one text and share a half (``ab + a`` and ``a + ba`` in ``ab a ba``): there the left one comes
    first, since the other two libraries work from left to right.
    """
    merges: list[tuple[T, T]] = []
    for token in tokens:
        cuts = [
            (left, right)
            for cut in range(1, len(token))
            if (left := token[:cut]) in ranks and (right := token[cut:]) in ranks
        ]
        if len(cuts) > 1:
            cuts.sort(
                key=lambda pair: (
                    not (pair[0] + pair[1]).startswith(pair[1]),
                    ranks[pair[0]],
                    ranks[pair[1]],
                )
            )
        merges += cuts
    return merges
