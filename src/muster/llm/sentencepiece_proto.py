"""A SentencePiece model file, read: its pieces, and how it was trained to treat text.

The file is a protocol buffer (``sentencepiece_model.proto`` of the SentencePiece project). Only the
fields that encoding and decoding need are kept; all others are skipped, as the format asks for.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator

import msgspec

from muster.errors import CardError

__all__ = ["Algorithm", "Piece", "PieceKind", "SentencePieceModel", "read_sentencepiece"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_WIDTHS = {_FIXED64: 8, _FIXED32: 4}

_FLOAT = struct.Struct("<f")

_SWITCHES = {3: "adds_prefix", 4: "trims", 5: "marks_spaces"}
"""Fields of ``NormalizerSpec`` that say yes or no."""


class PieceKind(enum.IntEnum):
    """``SentencePiece.Type``."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class Algorithm(enum.IntEnum):
    """``TrainerSpec.ModelType``."""

    UNIGRAM = 1
    BPE = 2
    WORD = 3
    CHAR = 4


class Piece(msgspec.Struct, frozen=True):
    """One entry of the vocabulary; its place in the file is its id."""

    text: str
    score: float
    kind: PieceKind


class SentencePieceModel(msgspec.Struct, frozen=True, kw_only=True):
    """What a model file says, the format's defaults filled in.

    Attributes:
        pieces: The vocabulary, by id.
        algorithm: How a text is cut into pieces.
        byte_fallback: Whether unknown characters become byte pieces.
        space_after_words: Whether the mark for a space ends a word rather than beginning one.
        character_map: Precompiled replacements of characters; empty for none.
        adds_prefix: Whether a text is read as if a space came before it.
        trims: Whether spaces at the ends are removed and runs of them become one.
        marks_spaces: Whether a space is written as U+2581.
    """

    pieces: tuple[Piece, ...]
    algorithm: Algorithm = Algorithm.UNIGRAM
    byte_fallback: bool = False
    space_after_words: bool = False
    character_map: bytes = b""
    adds_prefix: bool = True
    trims: bool = True
    marks_spaces: bool = True


_Value = int | bytes


def read_sentencepiece(data: bytes) -> SentencePieceModel:
    """Read a model file.

    Raises:
        CardError: If it is not one.
    """
    pieces: list[Piece] = []
    model = SentencePieceModel(pieces=())
    try:
        for number, value in _fields(data):
            if number == 1:
                pieces.append(_piece(_message(value)))
            elif number == 2:
                model = _with_trainer(model, _message(value))
            elif number == 3:
                model = _with_normalizer(model, _message(value))
    except (ValueError, IndexError, struct.error) as error:  # UnicodeDecodeError is a ValueError
        raise CardError(f"it is not a SentencePiece model: {error}") from error
    if len({piece.text for piece in pieces} - {""}) != len(pieces) or not pieces:
        raise CardError("it has no pieces, an empty one, or one of them twice")
    return msgspec.structs.replace(model, pieces=tuple(pieces))


def _piece(data: bytes) -> Piece:
    text, score, kind = "", 0.0, PieceKind.NORMAL
    for number, value in _fields(data):
        if number == 1:
            text = _message(value).decode()
        elif number == 2:
            (score,) = _FLOAT.unpack(_message(value))
        elif number == 3:
            kind = PieceKind(_number(value))
    return Piece(text, score, kind)


def _with_trainer(model: SentencePieceModel, data: bytes) -> SentencePieceModel:
    for number, value in _fields(data):
        if number == 3:
            model = msgspec.structs.replace(model, algorithm=Algorithm(_number(value)))
        elif number == 24:
            model = msgspec.structs.replace(model, space_after_words=bool(_number(value)))
        elif number == 35:
            model = msgspec.structs.replace(model, byte_fallback=bool(_number(value)))
    return model


def _with_normalizer(model: SentencePieceModel, data: bytes) -> SentencePieceModel:
    for number, value in _fields(data):
        if number == 2:
            model = msgspec.structs.replace(model, character_map=_message(value))
        elif number in _SWITCHES:
            model = msgspec.structs.replace(model, **{_SWITCHES[number]: bool(_number(value))})
    return model


def _number(value: _Value) -> int:
    if isinstance(value, bytes):
        raise ValueError("bytes stand where a number is expected")  # noqa: TRY004 - of the file's
    return value


def _message(value: _Value) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number stands where bytes are expected")  # noqa: TRY004 - of the file's
    return value


def _fields(data: bytes) -> Iterator[tuple[int, _Value]]:
    """The fields of one message: their numbers, and numbers or bytes."""
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        number, wire_type = key >> 3, key & 7
        if wire_type == _VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire_type == _BYTES:
            width, at = _varint(data, at)
        elif wire_type in _WIDTHS:
            width = _WIDTHS[wire_type]
        else:
            raise ValueError(f"unknown wire type {wire_type}")
        if width > end - at:
            raise ValueError("a field goes beyond the end")
        yield number, data[at : at + width]
        at += width


def _varint(data: bytes, at: int) -> tuple[int, int]:
    byte = data[at]
    if byte < 0x80:  # nearly all of them
        return byte, at + 1
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number has too many bytes")
