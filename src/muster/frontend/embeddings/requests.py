"""Bodies of requests for embeddings and of their answers, and the bounds on their values."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from muster.frontend.api_error import ApiError
from muster.frontend.openai.requests import I64, U32
from muster.llm.embedding import EmbeddingUsage, Vector

__all__ = [
    "MAX_INPUTS",
    "Embedding",
    "EmbeddingsReply",
    "EmbeddingsRequest",
    "Hints",
    "Input",
    "check",
    "inputs_of",
]

MAX_INPUTS = 2048
"""Inputs of one request, as in OpenAI's API."""

Input: TypeAlias = str | list[int]
"""One input: a text, or the ids of its tokens."""


class Hints(msgspec.Struct, frozen=True):
    """What of ``nvext`` has a meaning here: texts that the worker is sent along."""

    annotations: list[str] | None = None


class EmbeddingsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """``POST /v1/embeddings``.

    ``add_special_tokens`` and ``truncate_prompt_tokens`` are vLLM's. Both are about texts: ids are
    taken as they are.
    """

    model: str
    input: str | list[str | U32 | list[U32]]
    dimensions: I64 | None = None
    encoding_format: Literal["float", "base64"] | None = None
    user: str | None = None
    add_special_tokens: bool | None = None
    truncate_prompt_tokens: I64 | None = None
    nvext: Hints | None = None


class Embedding(msgspec.Struct, frozen=True, kw_only=True):
    """The vector of one input: numbers, or base64 of little-endian 32-bit floats."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: Vector


class EmbeddingsReply(msgspec.Struct, frozen=True, kw_only=True):
    """The answer."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


def _fail(param: str, message: str) -> ApiError:
    return ApiError(400, message, param=param, slug="invalid_value")


def check(request: EmbeddingsRequest) -> None:
    """Check the values of a request, but for its input.

    Raises:
        ApiError: 400, for the first value out of bounds; ``param`` names it.
    """
    if not request.model:
        raise _fail("model", "Model cannot be empty")
    if request.dimensions is not None and not 1 <= request.dimensions < 1 << 32:
        raise _fail("dimensions", f"Dimensions must be at least 1, got {request.dimensions}")
    if request.user == "":
        raise _fail("user", "User ID cannot be empty")
    longest = request.truncate_prompt_tokens
    if longest is not None and (longest < -1 or longest == 0):
        raise _fail(
            "truncate_prompt_tokens",
            f"truncate_prompt_tokens must be at least 1, or -1 for the context, got {longest}",
        )


def inputs_of(request: EmbeddingsRequest) -> list[Input]:
    """The inputs of a request.

    Raises:
        ApiError: 400 if there are none or too many, if one is empty, or if forms are mixed.
    """
    given = request.input
    kinds = {str} if isinstance(given, str) else {type(part) for part in given}
    inputs: list[Input]
    if isinstance(given, str):
        inputs = [given]
    elif kinds == {int}:
        inputs = [[part for part in given if isinstance(part, int)]]
    elif kinds in ({str}, {list}):
        inputs = [part for part in given if not isinstance(part, int)]
    else:
        raise _fail(
            "input",
            "The input must be a text, a list of texts, a list of token ids, or a list of such "
            "lists; it is empty or mixes them",
        )
    if len(inputs) > MAX_INPUTS:
        raise _fail(
            "input", f"At most {MAX_INPUTS} inputs are allowed in a request, got {len(inputs)}"
        )
    for position, part in enumerate(inputs):
        if not part:
            raise _fail("input", f"Input {position} is empty")
    return inputs
