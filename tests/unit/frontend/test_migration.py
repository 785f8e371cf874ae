from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.config.settings import HttpSettings
from muster.errors import (
    CannotConnect,
    Disconnected,
    EngineError,
    EngineShutdown,
    InvalidArgument,
    MusterError,
    Overloaded,
    ResponseTimeout,
    StreamIncomplete,
    WorkerUnavailable,
)
from muster.frontend.migration import MigrationLimits, Progress, obstacle
from muster.llm.protocol import (
    CompletionUsage,
    EngineOutput,
    EngineRequest,
    GuidedDecoding,
    OutputOptions,
    PromptTokensDetails,
    SamplingOptions,
    StopConditions,
)

LOST = Disconnected("gone")


def request(**more: object) -> EngineRequest:
    whole = EngineRequest(model="tiny", token_ids=[1, 2, 3])
    return msgspec.structs.replace(whole, **more)


def progress(tokens: int = 0, *, of: EngineRequest | None = None, **limits: int) -> Progress:
    made = Progress(of or request(), MigrationLimits(**limits))
    if tokens:
        made.take([EngineOutput(token_ids=[*range(100, 100 + tokens)])])
    return made


@pytest.mark.parametrize(
    "failure",
    [
        Disconnected("x"),
        StreamIncomplete("x"),
        EngineShutdown("x"),
        WorkerUnavailable("x"),
        CannotConnect("x"),
    ],
    ids=lambda failure: failure.code,
)
def test_a_lost_instance_is_a_reason_to_move(failure: MusterError) -> None:
    assert progress().refusal(failure, reported=False) == ""
    assert progress(5).refusal(failure, reported=False) == ""


@pytest.mark.parametrize(
    "failure",
    [EngineError("x"), InvalidArgument("x"), Overloaded("x")],
    ids=lambda failure: failure.code,
)
def test_what_is_the_requests_own_fault_is_none(failure: MusterError) -> None:
    assert "says nothing of other instances" in progress(5).refusal(failure, reported=False)


def test_silence_is_a_reason_only_once_the_answer_has_begun() -> None:
    assert progress().refusal(ResponseTimeout("x"), reported=False)
    assert progress(1).refusal(ResponseTimeout("x"), reported=False) == ""


def test_of_what_a_handler_reports_only_its_engines_end_counts() -> None:
    assert "engine itself" in progress(5).refusal(LOST, reported=True)
    assert progress(5).refusal(EngineShutdown("bye"), reported=True) == ""


def test_a_complete_answer_is_not_asked_for_again() -> None:
    done = progress(2)
    done.take([EngineOutput(token_ids=[9], finish_reason="stop")])
    assert "complete" in done.refusal(LOST, reported=False)


def test_moves_are_counted_apart_before_and_after_the_first_token() -> None:
    moving = progress(before_first=2, after_first=1)
    moving.moved(2)
    assert "2 times before" in moving.refusal(LOST, reported=False)
    moving.take([EngineOutput(token_ids=[7])])
    assert moving.refusal(LOST, reported=False) == ""
    assert moving.kind == "ongoing_request"
    moving.moved()
    assert "1 times after" in moving.refusal(LOST, reported=False)
    assert moving.moves_left == 0


def test_a_named_instance_is_not_replaced() -> None:
    named = request(routing={"backend_instance_id": 7})
    assert "named" in progress(of=named).refusal(LOST, reported=False)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"sampling_options": SamplingOptions(n=2)}, "several answers"),
        ({"sampling_options": SamplingOptions(best_of=2)}, "several answers"),
        ({"sampling_options": SamplingOptions(use_beam_search=True)}, "several answers"),
        ({"sampling_options": SamplingOptions(guided_decoding=GuidedDecoding(regex="a"))}, "guid"),
        ({"prompt_embeds": "AAAA"}, "embeddings"),
        ({"bootstrap_info": {"bootstrap_room": 1}}, "one instance"),
        ({"stop_conditions": StopConditions(max_thinking_tokens=5)}, "thinking"),
    ],
)
def test_what_tokens_cannot_say_is_not_continued_but_may_begin_elsewhere(
    fields: dict[str, object], why: str
) -> None:
    asked = request(**fields)
    assert why in obstacle(asked)
    assert why in progress(3, of=asked).refusal(LOST, reported=False)
    assert progress(of=asked).refusal(LOST, reported=False) == ""


def test_text_without_tokens_cannot_be_continued() -> None:
    textual = progress()
    textual.take([EngineOutput(text="hello")])
    assert "without its tokens" in textual.refusal(LOST, reported=False)


def test_an_answer_that_is_too_long_stays() -> None:
    assert progress(7, max_seq_len=10).refusal(LOST, reported=False) == ""
    long = progress(8, max_seq_len=10)
    assert long.exceeded
    assert "more than 10 tokens" in long.refusal(LOST, reported=False)


def test_the_next_instance_is_asked_for_the_rest() -> None:
    asked = request(
        stop_conditions=StopConditions(max_tokens=10, min_tokens=3, stop=["x"]),
        output_options=OutputOptions(logprobs=1, prompt_logprobs=1),
    )
    moving = progress(4, of=asked)
    rest = moving.rest()
    assert rest is not None
    assert rest.token_ids == [1, 2, 3, 100, 101, 102, 103]
    assert rest.stop_conditions == StopConditions(max_tokens=6, min_tokens=0, stop=["x"])
    assert rest.output_options == OutputOptions(logprobs=1)
    moving.take([EngineOutput(token_ids=[104])])
    again = moving.rest()
    assert again is not None
    assert again.token_ids == [1, 2, 3, 100, 101, 102, 103, 104]
    assert again.stop_conditions.max_tokens == 5


def test_nothing_is_asked_where_nothing_is_left() -> None:
    asked = request(stop_conditions=StopConditions(max_tokens=4))
    assert progress(4, of=asked).rest() is None
    assert progress(0, of=asked).rest() == asked


@given(
    st.lists(st.lists(st.integers(0, 9), max_size=4), max_size=8),
    st.data(),
)
def test_however_often_it_moves_the_request_is_the_prompt_and_all_tokens(
    items: list[list[int]], data: st.DataObject
) -> None:
    limit = sum(map(len, items)) + 1
    asked = request(stop_conditions=StopConditions(max_tokens=limit))
    moving = progress(of=asked, before_first=99, after_first=99)
    came: list[int] = []
    for item in items:
        moving.take([EngineOutput(token_ids=item)])
        came += item
        if data.draw(st.booleans()):
            rest = moving.rest()
            assert rest is not None
            assert rest.token_ids == [1, 2, 3, *came]
            assert rest.stop_conditions.max_tokens == limit - len(came)


def test_the_last_engines_counts_are_those_of_the_whole_answer() -> None:
    moving = progress(4)
    moving.rest()
    usage = CompletionUsage(
        prompt_tokens=7,
        completion_tokens=6,
        total_tokens=13,
        prompt_tokens_details=PromptTokensDetails(cached_tokens=5),
    )
    last = EngineOutput(token_ids=[1], finish_reason="stop", completion_usage=usage)
    moving.take([last])
    assert last.completion_usage == CompletionUsage(
        prompt_tokens=3,
        completion_tokens=10,
        total_tokens=13,
        prompt_tokens_details=PromptTokensDetails(cached_tokens=3),
    )


def test_after_the_first_token_the_limit_is_that_before_it_unless_set() -> None:
    assert MigrationLimits.of(HttpSettings(migration_limit=1)).after_first == 1
    assert MigrationLimits.of(HttpSettings(migration_after_first=0)) == MigrationLimits(
        before_first=3, after_first=0
    )
