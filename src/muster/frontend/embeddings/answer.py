"""From a worker's answer to the client's. Pure, and as slow as the vectors are many."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Sequence

import msgspec

from muster.errors import EngineError
from muster.frontend.embeddings.requests import Embedding, EmbeddingsRequest
from muster.llm.embedding import EmbeddingOutput, EmbeddingUsage, Vector, floats_of, pack_floats

__all__ = ["LARGE_ANSWER", "render", "size_of"]

LARGE_ANSWER = 32 << 10
"""Answers with more numbers are rendered in a thread: these take about 2 ms as decimals."""

_encode = msgspec.json.Encoder().encode


def size_of(vectors: Sequence[Vector]) -> int:
    """Roughly how many numbers there are."""
    return sum([len(each) * 3 // 16 if isinstance(each, str) else len(each) for each in vectors])


def vectors_of(outputs: Sequence[EmbeddingOutput], count: int) -> list[Vector]:
    """The vectors of an answer, in the order of the inputs.

    Args:
        outputs: All items of it.
        count: How many inputs there were.

    Raises:
        EngineError: There are more of one than of the other.
    """
    vectors = [vector for output in outputs for vector in output.vectors()]
    if len(vectors) != count:
        raise EngineError(f"the engine gave {len(vectors)} embeddings for {count} inputs")
    return vectors


def render(
    request: EmbeddingsRequest, model: str, vectors: Sequence[Vector], usage: EmbeddingUsage
) -> bytes:
    """The body of the client's answer.

    Each vector is encoded by itself, so that a thread which does it does not hold up the others.

    Raises:
        EngineError: A vector is none, or not as long as the client asked for.
    """
    shape = _as_base64 if request.encoding_format == "base64" else _as_numbers
    data = b",".join(
        [
            _encode(Embedding(index=index, embedding=shape(vector, request.dimensions)))
            for index, vector in enumerate(vectors)
        ]
    )
    return b'{"object":"list","data":[%b],"model":%b,"usage":%b}' % (
        data,
        _encode(model),
        _encode(usage),
    )


def _as_base64(vector: Vector, dimensions: int | None) -> str:
    if not isinstance(vector, str):
        _check_length(len(vector), dimensions)
        return pack_floats(vector)
    try:
        size = len(base64.b64decode(vector, validate=True))
    except (binascii.Error, ValueError) as error:
        raise EngineError(f"the engine's vector is not base64: {error}") from error
    if size % 4:
        raise EngineError(f"the engine's vector has {size} bytes, which are no 32-bit floats")
    _check_length(size // 4, dimensions)
    return vector


def _as_numbers(vector: Vector, dimensions: int | None) -> list[float]:
    numbers = floats_of(vector)
    _check_length(len(numbers), dimensions)
    if not all(map(math.isfinite, numbers)):
        raise EngineError("the engine's vector has numbers that are not finite")
    return numbers


def _check_length(length: int, dimensions: int | None) -> None:
    if not length:
        raise EngineError("the engine's vector is empty")
    if dimensions is not None and length != dimensions:
        raise EngineError(
            f"the engine gave vectors of {length} dimensions where {dimensions} were asked for"
        )
