"""The mock that embeds: vectors that only depend on the tokens, at a chosen speed, without a model."""

from __future__ import annotations

import hashlib
import math
from array import array
from collections.abc import Sequence

import msgspec

from muster.errors import Cancelled, ConfigError, InvalidArgument
from muster.llm.embedding import EmbeddingRequest, Embeddings
from muster.wire.context import Context
from muster.worker.engines.timing import Pacer, Timing

__all__ = ["MockEmbedder", "MockEmbedderSettings", "mock_vector"]


class MockEmbedderSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What is simulated.

    Attributes:
        dimensions: Length of the vectors.
        timing: How fast: a request takes as long as the first token of a prompt with all its tokens.
        context_length: Most tokens of an input; ``None`` for no limit.

    Raises:
        ConfigError: ``dimensions`` is below 1.
    """

    dimensions: int = 256
    timing: Timing = Timing()
    context_length: int | None = None

    def __post_init__(self) -> None:
        if self.dimensions < 1:
            raise ConfigError(f"dimensions is {self.dimensions}: it must be at least 1")


def mock_vector(token_ids: Sequence[int], dimensions: int) -> Sequence[float]:
    """The vector of an input: pseudo-random by its tokens, of length one.

    A shorter one is the beginning of a longer one, scaled to length one again.
    """
    data = hashlib.shake_128(array("Q", token_ids).tobytes()).digest(dimensions * 2)
    raw = [number - 32767.5 for number in memoryview(data).cast("H")]
    scale = 1 / math.sqrt(sum([number * number for number in raw]))
    return array("f", [number * scale for number in raw])


class MockEmbedder:
    """Embeds without a model; see ``muster.llm.embedding.Embedder``."""

    def __init__(self, settings: MockEmbedderSettings | None = None) -> None:
        self._settings = settings or MockEmbedderSettings()

    async def embed(self, request: EmbeddingRequest, context: Context) -> Embeddings:
        """The vectors of a request's inputs.

        Raises:
            InvalidArgument: More dimensions are asked for than there are, or an input is empty or
                too long.
            Cancelled: The request was stopped.
        """
        most, wanted = self._settings.dimensions, request.dimensions
        if wanted is not None and not 1 <= wanted <= most:
            raise InvalidArgument(f"dimensions must be between 1 and {most}, got {wanted}")
        limit = self._settings.context_length
        for position, token_ids in enumerate(request.inputs):
            if not token_ids:
                raise InvalidArgument(f"input {position} is empty")
            if limit is not None and len(token_ids) > limit:
                raise InvalidArgument(
                    f"input {position} has {len(token_ids)} tokens: the context length is {limit}"
                )
        pacer = Pacer(context)
        if not await pacer.wait(self._settings.timing.prefill_s(len(request.token_ids))):
            raise Cancelled("the request was stopped")
        vectors = []
        for token_ids in request.inputs:
            vectors.append(mock_vector(token_ids, wanted or most))
            if not await pacer.wait(0):  # the other requests get their turn now and then
                raise Cancelled("the request was stopped")
        return Embeddings(vectors=vectors)
