"""How a tokenizer's decoder turns tokens into text, as a plan that works on a stream.

A tokenizer.json names a chain of decoder steps, each defined on the complete list of tokens. Most
chains act on one token at a time, apart from four things: the first token may be treated
differently, runs of byte tokens join, UTF-8 sequences span tokens, and leading characters of the
whole text may be stripped. ``plan_decoder`` recognises those chains; for all others it says so, and
the caller decodes the whole at the end. Pure: no tokenizer is needed, and none is changed.

The rules are those of the ``tokenizers`` package, against which the tests compare them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

__all__ = [
    "BytePlan",
    "DecoderPlan",
    "PiecePlan",
    "WholePlan",
    "bytes_to_token",
    "plan_decoder",
    "token_to_bytes",
]

Rewrite = Callable[[str], str]
"""What a step makes of one token."""

_BYTE_TOKEN = re.compile(r"<0x(\+[0-9a-fA-F]|[0-9a-fA-F]{2})>")
"""A byte token; the sign is accepted because the library's integer parser accepts it."""


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's alphabet: printable Latin-1 stands for itself, the other bytes for U+0100 onwards."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    alphabet = {chr(byte): byte for byte in printable}
    alphabet |= {chr(0x100 + offset): byte for offset, byte in enumerate(others)}
    return alphabet


_BYTES = _byte_alphabet()
_SPELLINGS = {byte: ord(character) for character, byte in _BYTES.items()}


def token_to_bytes(token: str) -> bytes:
    """The bytes a ByteLevel decoder makes of one token.

    Each character stands for one byte; a token with a character outside the alphabet (usually an
    added token) is its own UTF-8 text.
    """
    try:
        return bytes([_BYTES[character] for character in token])
    except KeyError:
        return token.encode()


def bytes_to_token(data: bytes) -> str:
    """How a ByteLevel vocabulary spells these bytes; the inverse of ``token_to_bytes``."""
    return data.decode("latin-1").translate(_SPELLINGS)


class BytePlan(msgspec.Struct, frozen=True):
    """Tokens are bytes (``token_to_bytes``); the text is their UTF-8, errors replaced."""


class PiecePlan(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens are pieces of text, each rewritten on its own.

    Attributes:
        first: Rewrites the first token of a text.
        rest: Rewrites every other token.
        byte_tokens: Whether ``<0xNN>`` pieces are bytes. A run of them is text if the whole run is
            UTF-8, else one U+FFFD each: so a run is not certain before it ends.
        strip: Character of which up to ``strip_count`` are removed at the start of the text.
        strip_count: See ``strip``.
    """

    first: Rewrite
    rest: Rewrite
    byte_tokens: bool
    strip: str = ""
    strip_count: int = 0

    def byte_of(self, piece: str) -> int | None:
        """The byte a rewritten piece stands for, or ``None`` if it is text."""
        if not self.byte_tokens:
            return None
        match = _BYTE_TOKEN.fullmatch(piece)
        return int(match[1], 16) if match else None


class WholePlan(msgspec.Struct, frozen=True):
    """Text cannot be had before the last token; ``reason`` names the step that is to blame."""

    reason: str


DecoderPlan = BytePlan | PiecePlan | WholePlan


class _Unknown(Exception):  # noqa: N818 - never leaves this module
    """A step, or its place in the chain, that cannot be streamed."""


def plan_decoder(decoder: Mapping[str, Any] | None) -> DecoderPlan:
    """The plan for the ``decoder`` object of a tokenizer.json (``None`` when it has none)."""
    if decoder is None:
        return PiecePlan(first=_same, rest=lambda token: " " + token, byte_tokens=False)
    steps = _flatten(decoder)
    kinds = [str(step.get("type")) for step in steps]
    if kinds[:1] == ["ByteLevel"] and set(kinds[1:]) <= {"Fuse"}:
        return BytePlan()
    try:
        return _plan_pieces(steps)
    except _Unknown as unknown:
        return WholePlan(str(unknown))


def _flatten(decoder: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    if decoder.get("type") != "Sequence":
        return [decoder]
    return [step for part in decoder.get("decoders", ()) for step in _flatten(part)]


def _plan_pieces(steps: list[Mapping[str, Any]]) -> PiecePlan:
    firsts: list[Rewrite] = []
    rests: list[Rewrite] = []
    byte_tokens = fused = False
    strip, strip_count = "", 0
    for step in steps:
        kind = step.get("type")
        if kind == "Fuse":
            fused = True
        elif kind == "ByteFallback" and not (byte_tokens or fused):
            byte_tokens = True
        elif kind == "Strip" and fused and not strip_count and not step.get("stop"):
            strip, strip_count = str(step["content"]), int(step["start"])
        elif fused or byte_tokens:
            raise _Unknown(f"decoder step {kind} after the tokens were joined")
        else:
            first, rest = _rewrites(step)
            firsts.append(first)
            rests.append(rest)
    return PiecePlan(
        first=_chain(firsts),
        rest=_chain(rests),
        byte_tokens=byte_tokens,
        strip=strip,
        strip_count=strip_count,
    )


def _rewrites(step: Mapping[str, Any]) -> tuple[Rewrite, Rewrite]:
    """What one step makes of the first token, and of the others."""
    match step.get("type"):
        case "Replace":
            replace = _replace(step["pattern"], str(step["content"]))
            return replace, replace
        case "Strip":
            strip = _strip(str(step["content"]), int(step["start"]), int(step["stop"]))
            return strip, strip
        case "Metaspace":
            return _metaspace(step)
        case "WordPiece":
            return _word_piece(str(step["prefix"]), cleanup=bool(step["cleanup"]))
        case kind:
            raise _Unknown(f"decoder step {kind}")


def _same(token: str) -> str:
    return token


def _chain(rewrites: list[Rewrite]) -> Rewrite:
    if len(rewrites) <= 1:
        return rewrites[0] if rewrites else _same

    def chained(token: str) -> str:
        for rewrite in rewrites:
            token = rewrite(token)
        return token

    return chained


def _replace(pattern: Mapping[str, str], content: str) -> Rewrite:
    text = pattern.get("String")
    if text:
        return lambda token: token.replace(text, content)
    if not pattern.get("Regex"):
        raise _Unknown(f"decoder step Replace with the pattern {dict(pattern)}")
    # The library's regular expressions are not Python's, so it does the work itself.
    from tokenizers import Regex, decoders

    step = decoders.Replace(Regex(pattern["Regex"]), content)
    return lambda token: str(step.decode([token]))


def _strip(content: str, start: int, stop: int) -> Rewrite:
    def strip(token: str) -> str:
        low, high = 0, len(token)
        while low < min(start, len(token)) and token[low] == content:
            low += 1
        while high > max(len(token) - stop, low) and token[high - 1] == content:
            high -= 1
        return token[low:high]

    return strip


def _metaspace(step: Mapping[str, Any]) -> tuple[Rewrite, Rewrite]:
    mark = str(step["replacement"])
    # Files older than prepend_scheme say add_prefix_space.
    never = step.get("prepend_scheme") == "never" or step.get("add_prefix_space") is False

    def rest(token: str) -> str:
        return token.replace(mark, " ")

    return (rest if never else lambda token: token.replace(mark, "")), rest


_CLEANUP = (
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" do not", " don't"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
)


def _word_piece(prefix: str, *, cleanup: bool) -> tuple[Rewrite, Rewrite]:
    def first(token: str) -> str:
        if cleanup:
            for clumsy, clean in _CLEANUP:
                token = token.replace(clumsy, clean)
        return token

    def rest(token: str) -> str:
        joined = token.removeprefix(prefix) if token.startswith(prefix) else " " + token
        return first(joined)

    return first, rest
