from __future__ import annotations

import math
from typing import Any

import pytest

from muster.errors import Cancelled, ConfigError, EngineError, InvalidArgument
from muster.llm.embedding import EmbeddingRequest, Embeddings, floats_of
from muster.testing.context import ManualContext
from muster.testing.virtual_time import run_in_virtual_time
from muster.wire.context import Context
from muster.worker.embedding import PROBE, EmbeddingHandler
from muster.worker.engines.mock_embedder import MockEmbedder, MockEmbedderSettings, mock_vector
from muster.worker.engines.timing import Timing, prefill_s


class Fixed:
    """An engine that gives what it was made with."""

    def __init__(self, *vectors: Any, tokens: int | None = None) -> None:
        self._found = Embeddings(vectors=vectors, prompt_tokens=tokens)

    async def embed(self, request: EmbeddingRequest, context: Context) -> Embeddings:
        return self._found


def ask(engine: Any, body: Any, context: ManualContext | None = None) -> dict[str, Any]:
    async def main() -> dict[str, Any]:
        stream = EmbeddingHandler(engine).generate(body, context or ManualContext())
        (item,) = [item async for item in stream]
        return item

    return run_in_virtual_time(main())


def mock(dimensions: int = 8, **more: Any) -> MockEmbedder:
    instant = {"timing": Timing(speedup_ratio=0)}
    return MockEmbedder(MockEmbedderSettings(**{"dimensions": dimensions, **instant, **more}))


def test_the_answer_is_the_peers_with_tokens_counted_here_or_by_the_engine() -> None:
    body = {"token_ids": [[1, 2], [3]], "model": "m"}
    assert ask(Fixed([0.5, -0.25, 1e-3], (1, 2)), body) == {
        "embeddings": ["AAAAPwAAgL5vEoM6", "AACAPwAAAEA="],
        "prompt_tokens": 3,
        "total_tokens": 3,
    }
    assert ask(Fixed([1.0], [1.0], tokens=9), body)["prompt_tokens"] == 9


def test_an_engine_must_give_a_vector_an_input() -> None:
    with pytest.raises(EngineError, match="1 embeddings for 2 inputs"):
        ask(Fixed([1.0]), {"token_ids": [[1], [2]]})


def test_what_is_no_request_for_embeddings_is_refused() -> None:
    for body in ({"token_ids": [1]}, {"input": "text"}, {}):
        with pytest.raises(InvalidArgument, match="not a request for embeddings"):
            ask(mock(), body)


def test_the_probe_is_answered() -> None:
    assert len(ask(mock(), PROBE)["embeddings"]) == 1


def test_mock_vectors_depend_on_the_tokens_alone_and_have_length_one() -> None:
    reply = ask(mock(), {"token_ids": [[1, 2], [1, 2], [2, 1]]})
    same, again, other = map(floats_of, reply["embeddings"])
    assert same == again != other
    assert math.isclose(math.hypot(*same), 1, abs_tol=1e-6)
    assert len(other) == 8


def test_fewer_dimensions_are_the_beginning_scaled_to_length_one() -> None:
    whole, part = mock_vector([5], 64), mock_vector([5], 16)
    length = math.hypot(*whole[:16])
    assert part == pytest.approx([number / length for number in whole[:16]], abs=1e-6)
    reply = ask(mock(64), {"token_ids": [[5]], "dimensions": 16})
    assert floats_of(reply["embeddings"][0]) == [*part]
    for dimensions in (65, 0):
        with pytest.raises(InvalidArgument, match="between 1 and 64"):
            ask(mock(64), {"token_ids": [[5]], "dimensions": dimensions})


def test_empty_and_overlong_inputs_are_refused_by_the_mock() -> None:
    with pytest.raises(InvalidArgument, match="input 1 is empty"):
        ask(mock(), {"token_ids": [[1], []]})
    with pytest.raises(InvalidArgument, match="context length is 2"):
        ask(mock(context_length=2), {"token_ids": [[1, 2, 3]]})
    with pytest.raises(ConfigError, match="dimensions"):
        mock(0)


def test_the_mock_takes_as_long_as_a_prefill_and_ends_when_it_is_stopped() -> None:
    async def timed() -> float:
        import asyncio

        loop = asyncio.get_running_loop()
        start = loop.time()
        await MockEmbedder().embed(EmbeddingRequest(inputs=[[1] * 60, [2] * 40]), ManualContext())
        return loop.time() - start

    assert run_in_virtual_time(timed()) == pytest.approx(prefill_s(100))
    stopped = ManualContext()
    stopped.stop_generating()
    with pytest.raises(Cancelled):
        ask(mock(), {"token_ids": [[1]]}, stopped)
