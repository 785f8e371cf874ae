"""What the frontend and an engine that embeds say to each other: Dynamo's two forms of it.

Requests and answers have, beside their own fields, what routing, admission and migration look at in
``EngineRequest`` and ``EngineOutput``, so they take the same way.

Workers that take tokens get one request with the ids of all inputs, and answer with one item: the
vectors in order, each as base64 of little-endian 32-bit floats. Workers that take text get what the
client sent, and answer with what the client gets. Field names and what is left out are those of
Dynamo 1.6.1 (``PreprocessedEmbeddingRequest``, ``EmbeddingsEngineOutput``), found by asking it.
"""

from __future__ import annotations

import base64
import binascii
import sys
from array import array
from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import msgspec
from msgspec import UNSET, UnsetType

from muster.errors import EngineError, InvalidArgument
from muster.wire.context import Context

__all__ = [
    "Embedder",
    "EmbeddingOutput",
    "EmbeddingRequest",
    "EmbeddingUsage",
    "Embeddings",
    "TextEmbeddingRequest",
    "Vector",
    "floats_of",
    "pack_floats",
    "read_embedding_request",
]

Vector: TypeAlias = str | list[float]
"""One embedding on the wire: base64 of little-endian 32-bit floats, or the numbers."""


class _Routed(msgspec.Struct, frozen=True, kw_only=True):
    """What routing looks at, by the names it has in ``EngineRequest``; absent unless set."""

    routing: dict[str, Any] | UnsetType | None = UNSET
    agent_context: dict[str, Any] | UnsetType | None = UNSET


class EmbeddingRequest(_Routed, frozen=True, kw_only=True):
    """A request to a worker that takes tokens.

    Attributes:
        inputs: The ids of each input; ``token_ids`` on the wire.
        dimensions: How long the vectors should be; ``None`` for the model's own length.
        encoding_format: What the client wants; vectors travel in base64 all the same.
        truncate_prompt_tokens: What the client said; the ids are cut already.
        health_check: Set in requests that only ask whether the engine works.
    """

    inputs: list[list[int]] = msgspec.field(name="token_ids")
    model: str = ""
    encoding_format: str | UnsetType | None = UNSET
    truncate_prompt_tokens: int | UnsetType | None = UNSET
    dimensions: int | None = None
    mdc_sum: str | None = None
    annotations: list[str] = []
    health_check: bool | UnsetType | None = msgspec.field(name="_HEALTH_CHECK", default=UNSET)

    @property
    def token_ids(self) -> Sequence[int]:
        """As many items as there are tokens: what measures requests asks only for their number."""
        return range(sum(map(len, self.inputs)))


class TextEmbeddingRequest(_Routed, frozen=True, kw_only=True):
    """A request to a worker that takes text: the client's, without what nobody knows."""

    model: str
    input: str | list[str] | list[int] | list[list[int]]
    encoding_format: str | UnsetType = UNSET
    user: str | UnsetType = UNSET
    dimensions: int | UnsetType = UNSET
    add_special_tokens: bool | UnsetType = UNSET
    truncate_prompt_tokens: int | UnsetType = UNSET
    nvext: dict[str, Any] | UnsetType = UNSET

    @property
    def mdc_sum(self) -> None:
        """Not sent to workers that take text."""
        return

    @property
    def token_ids(self) -> Sequence[int]:
        """Nothing: only the worker knows how many there are."""
        return ()


class EmbeddingUsage(msgspec.Struct, frozen=True, kw_only=True):
    """What the worker counted."""

    prompt_tokens: int = 0
    total_tokens: int = 0


class _Item(msgspec.Struct, frozen=True):
    embedding: Vector
    index: int = 0


class EmbeddingOutput(msgspec.Struct, frozen=True, kw_only=True):
    """One item of a worker's answer, in either form.

    Attributes:
        embeddings: Of a worker that takes tokens: the vectors in order.
        data: Of a worker that takes text: the vectors with their places.
        prompt_tokens: Beside ``embeddings``.
        usage: Beside ``data``.
    """

    embeddings: list[Vector] | None = None
    data: list[_Item] | None = None
    prompt_tokens: int = 0
    usage: EmbeddingUsage | None = None

    @property
    def token_ids(self) -> Sequence[int]:
        """Nothing: an answer has no tokens."""
        return ()

    @property
    def text(self) -> None:
        """Nothing, as with the tokens."""
        return

    @property
    def finish_reason(self) -> str:
        """An answer that is there is complete; it goes to no other instance after that."""
        return "stop"

    @property
    def counted_tokens(self) -> int:
        """The prompt tokens the worker counted; 0 if it does not say."""
        return self.usage.prompt_tokens if self.usage is not None else self.prompt_tokens

    def vectors(self) -> list[Vector]:
        """The vectors in the order of the inputs.

        Raises:
            EngineError: It has none.
        """
        if self.embeddings is not None:
            return self.embeddings
        if self.data is None:
            raise EngineError("the engine's answer has no embeddings")
        return [item.embedding for item in sorted(self.data, key=lambda item: item.index)]


class Embeddings(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine of this process gives.

    Attributes:
        vectors: One for each input, in order; arrays of floats, or lists.
        prompt_tokens: What the engine counted; the request's ids, if left out.
    """

    vectors: Sequence[Sequence[float]]
    prompt_tokens: int | None = None


@runtime_checkable
class Embedder(Protocol):
    """Something that embeds. The contract for authors of engines."""

    async def embed(self, request: EmbeddingRequest, context: Context) -> Embeddings:
        """The vectors of a request's inputs; ``dimensions`` long, if it names a length.

        A vector shortened to ``dimensions`` has length one again, as OpenAI's have. The engine may
        end early when ``context.is_stopped()``: nobody reads the answer then.

        Raises:
            InvalidArgument: The engine cannot do what is asked, such as the dimensions.
            MusterError: Anything else the client should see.
        """
        ...


def read_embedding_request(body: EmbeddingRequest | dict[str, Any]) -> EmbeddingRequest:
    """A request as a typed value.

    Raises:
        InvalidArgument: It is none; the caller is told, as it is the caller's request.
    """
    if isinstance(body, EmbeddingRequest):
        return body
    try:
        return msgspec.convert(body, EmbeddingRequest)
    except msgspec.ValidationError as error:
        raise InvalidArgument(
            f"not a request for embeddings: {error}",
            hint="this engine embeds token ids: register the model with ModelInput.Tokens and "
            "ModelType.Embedding",
        ) from error


def pack_floats(vector: Sequence[float]) -> str:
    """A vector as base64 of little-endian 32-bit floats, as OpenAI's clients read it.

    Raises:
        EngineError: Something in it is not a number. One too large for 32 bits is sent as infinite.
    """
    try:
        values = array("f", vector)
    except TypeError as error:
        raise EngineError(f"the engine gave a vector that is none: {error}") from error
    if sys.byteorder == "big":
        values.byteswap()
    return base64.b64encode(values).decode("ascii")


def floats_of(vector: Vector) -> list[float]:
    """The numbers of a vector on the wire.

    Raises:
        EngineError: It is not base64 of whole 32-bit floats.
    """
    if not isinstance(vector, str):
        return vector
    try:
        data = base64.b64decode(vector, validate=True)
        values = array("f", data)
    except (binascii.Error, ValueError) as error:
        raise EngineError(f"the engine's vector is not base64 of floats: {error}") from error
    if sys.byteorder == "big":
        values.byteswap()
    return values.tolist()
