r"""Where a long text can be cut without changing its ids.

Encoded in pieces, a text of 60,000 tokens takes two thirds of the time and a fiftieth of the memory:
what the ``tokenizers`` package notes down for every character and every word stays in the caches of
the processor. The ids are the same only if nothing the package does looks across a cut.

A text is cut before white space that follows an ASCII letter, and only for tokenizers of which all
of this is known:

- They normalize to NFC or not at all. Neither that letter nor white space composes with what comes
  before it.
- They find no added token across a cut, nor one that takes or looks at the white space after it.
- They split by regular expressions made of the alternatives in ``_KNOWN``. None of these matches
  white space after a letter, so a match ends at the cut. None looks behind, so the rest is matched
  as if the text began there; and what is looked at beyond a match is looked at after white space
  only, which the end of a piece never is. One of the expressions takes all white space, so that the
  cut is the end of a match and not in between two.

What comes after splitting sees single words.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

import tokenizers

__all__ = ["can_be_cut", "cut"]

PIECE_CHARS = 8192
"""A piece's length, at least."""

_CUT = re.compile("(?<=[A-Za-z])[ \n]")

_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_START = r"[^\r\n\p{L}\p{N}]?"
_WHITE_SPACE = r"\s+"


def _cased(without: str) -> Iterable[str]:
    """Words cut where lower case turns into upper case."""
    upper = rf"[\p{{Lu}}\p{{Lt}}\p{{Lm}}\p{{Lo}}\p{{M}}{without}]"
    lower = rf"[\p{{Ll}}\p{{Lm}}\p{{Lo}}\p{{M}}{without}]"
    for word in (f"{_START}{upper}*{lower}+", f"{_START}{upper}+{lower}*"):
        yield word
        yield f"{word}{_CONTRACTIONS}?"


_KNOWN = frozenset(
    (
        *["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"],
        "'(?:[sdmt]|ll|ve|re)",
        "'(?i:[sdmt]|ll|ve|re)",
        _CONTRACTIONS,
        *_cased(""),
        *_cased(r"&&[^\p{Han}]"),
        r" ?\p{L}+",
        _START + r"\p{L}+",
        _START + r"[\p{L}\p{M}]+",
        "[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+",
        "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+",
        r"[\p{Han}]+",
        "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
        r"\p{N}",
        r"\p{N}{1,3}",
        r" ?\p{N}+",
        r" ?[^\s\p{L}\p{N}]+",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*",
        " ?[\\p{P}\\p{S}]+[\r\n]*",
        r"\s*[\r\n]+",
        "\\s*[\r\n]+",
        r"\s+(?!\S)",
        _WHITE_SPACE,
    )
)


def can_be_cut(
    normalizer: Any, pre_tokenizer: Any, added_tokens: Iterable[tokenizers.AddedToken]
) -> bool:
    """Whether ``cut`` leaves a tokenizer's ids as they are.

    Args:
        normalizer: As in tokenizer.json; ``None`` if there is none.
        pre_tokenizer: Likewise.
        added_tokens: Its added tokens.
    """
    return (
        all(each == {"type": "NFC"} for each in _steps(normalizer, "normalizers"))
        and _ends_words(_steps(pre_tokenizer, "pretokenizers"))
        and not any(map(_reaches_over, added_tokens))
    )


def cut(text: str, *, at_least: int = PIECE_CHARS) -> list[str]:
    """The text in pieces of so many characters (not 0); longer where no word ends at that place."""
    pieces = []
    start = 0
    while (found := _CUT.search(text, start + at_least)) is not None:
        pieces.append(text[start : found.start()])
        start = found.start()
    pieces.append(text[start:])
    return pieces


def _steps(part: Any, name: str) -> list[Any]:
    """A pipeline's parts in their order."""
    if part is None:
        return []
    if part.get("type") != "Sequence":
        return [part]
    return [step for each in part[name] for step in _steps(each, name)]


def _ends_words(steps: Sequence[Any]) -> bool:
    """Whether words end at white space after a letter, whatever follows."""
    ended = False
    for step in steps:
        match step:
            case {
                "type": "Split",
                "pattern": {"Regex": str(pattern)},
                "behavior": "Isolated",
                "invert": False,
            }:
                alternatives = _alternatives(pattern)
                if not alternatives <= _KNOWN:
                    return False
                ended = ended or _WHITE_SPACE in alternatives
            # White space has another look afterwards, so this has to be the last step.
            case {"type": "ByteLevel", "add_prefix_space": False} if step is steps[-1]:
                ended = ended or step.get("use_regex", True) is True
            case _:
                return False
    return ended


def _alternatives(pattern: str) -> set[str]:
    """What stands between the bars of a regular expression, but for those in brackets."""
    found = [""]
    depth, quoted, in_class = 0, False, False
    for character in pattern:
        if quoted or character == "\\":
            quoted = not quoted
        elif in_class:
            in_class = character != "]"
        elif character == "[":
            in_class = True
        elif character in "()":
            depth += 1 if character == "(" else -1
        elif character == "|" and not depth:
            found.append("")
            continue
        found[-1] += character
    return set(found)


def _reaches_over(token: tokenizers.AddedToken) -> bool:
    """Whether a token may be found across a cut, or depends on what is beyond one."""
    for text in {token.content, unicodedata.normalize("NFC", token.content)}:
        if _CUT.search(text) is not None:
            return True
        if token.rstrip and re.search("[A-Za-z]$", text) is not None:
            return True
        if token.single_word and text[:1] in (" ", "\n"):
            return True
    return False
