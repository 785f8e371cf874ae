from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.errors import EngineError
from muster.frontend.choice import Choice
from muster.llm.preprocessor import Preprocessor
from muster.llm.protocol import CompletionUsage, EngineOutput, StopConditions, TopLogprob
from muster.llm.stops import StopChecker, StopRules
from muster.testing.scripted import outputs
from muster.testing.tiny_model import EOS, token_ids


def choice(preprocessor: Preprocessor, *, scored: bool = False, **conditions: Any) -> Choice:
    rules = StopRules.of(StopConditions(**conditions), eos_token_ids=preprocessor.eos_token_ids)
    return Choice(0, StopChecker(rules, preprocessor.new_detokenizer()), scored=scored)


@given(text=st.text(), cuts=st.lists(st.integers(1, 5)))
def test_however_outputs_are_batched_the_text_is_the_same(
    preprocessor: Preprocessor, text: str, cuts: list[int]
) -> None:
    items = outputs(token_ids(text), "length")
    one = choice(preprocessor)
    taken, tokens = "", 0
    for cut in [*cuts, len(items)]:
        batch, items = items[:cut], items[cut:]
        if batch:
            tokens += one.feed(batch)
            taken += one.take_text()
    assert taken == text
    assert one.finish_reason == "length"
    assert one.ended_by_engine
    assert tokens == one.tokens == len(token_ids(text))


def test_what_follows_the_end_is_dropped(preprocessor: Preprocessor) -> None:
    one = choice(preprocessor)
    assert one.feed(outputs([*token_ids("ab"), EOS, *token_ids("cd")])) == 3
    assert one.feed(outputs(token_ids("ef"), "length")) == 0
    assert (one.take_text(), one.finish_reason, one.tokens) == ("ab", "stop", 3)
    assert not one.ended_by_engine


def test_outputs_after_the_engines_own_end_are_dropped(preprocessor: Preprocessor) -> None:
    one = choice(preprocessor)
    one.feed([*outputs(token_ids("a"), "stop"), *outputs(token_ids("b"))])
    assert one.take_text() == "a"


def test_text_the_engine_sends_is_used_as_it_is(preprocessor: Preprocessor) -> None:
    one = choice(preprocessor)
    one.feed([*outputs(token_ids("a")), EngineOutput(token_ids=[98], text="B!"), *outputs([99])])
    assert one.take_text() == "aB!c"
    assert one.tokens == 3


def test_text_is_taken_once(preprocessor: Preprocessor) -> None:
    one = choice(preprocessor)
    one.feed(outputs(token_ids("ab")))
    assert (one.take_text(), one.take_text()) == ("ab", "")


def test_text_held_back_for_a_stop_string_comes_with_the_end(preprocessor: Preprocessor) -> None:
    one = choice(preprocessor, stop=["STOP"])
    one.feed(outputs(token_ids("x ST")))
    assert one.take_text() == "x "
    one.feed(outputs([], "length"))
    assert (one.take_text(), one.finish_reason) == ("ST", "length")


def test_an_incomplete_character_at_the_end_is_replaced(preprocessor: Preprocessor) -> None:
    one = choice(preprocessor)
    one.feed(outputs([*token_ids("a"), 0xE6, 0xBC], "stop"))
    assert one.take_text() == "a\ufffd"


@pytest.mark.parametrize("reason", ["error: no memory", "whatever"])
def test_an_error_as_reason_is_raised(preprocessor: Preprocessor, reason: str) -> None:
    with pytest.raises(EngineError):
        choice(preprocessor).feed(outputs(token_ids("a"), reason))


def test_a_stream_without_a_reason_has_stopped_if_it_had_begun(preprocessor: Preprocessor) -> None:
    one = choice(preprocessor)
    with pytest.raises(EngineError, match="without any output"):
        one.end()
    one.feed(outputs(token_ids("a")))
    one.end()
    assert one.finish_reason == "stop"


def test_an_end_after_the_end_changes_nothing(preprocessor: Preprocessor) -> None:
    one = choice(preprocessor)
    one.feed(outputs([], "length"))
    one.end()
    assert one.finish_reason == "length"


def test_the_engines_usage_is_kept(preprocessor: Preprocessor) -> None:
    one = choice(preprocessor)
    usage = CompletionUsage(prompt_tokens=3)
    one.feed([EngineOutput(token_ids=[97], finish_reason="stop", completion_usage=usage)])
    assert one.usage == usage


def test_scores_belong_to_the_tokens_of_the_answer_only(preprocessor: Preprocessor) -> None:
    one = choice(preprocessor, scored=True)
    tops = [[TopLogprob(token_id=number)] for number in range(3)]
    one.feed(
        [
            EngineOutput(
                token_ids=[97, EOS, 98],
                log_probs=[-1.0, -2.0, -3.0],
                top_logprobs=tops,
                tokens=["a", None, "b"],
            )
        ]
    )
    scores = one.take_scores()
    assert [(score.token_id, score.token, score.logprob) for score in scores] == [
        (97, "a", -1.0),
        (EOS, None, -2.0),
    ]
    assert [score.top for score in scores] == tops[:2]
    assert one.take_scores() == []


def test_outputs_without_scores_have_none(preprocessor: Preprocessor) -> None:
    one = choice(preprocessor, scored=True)
    one.feed(outputs(token_ids("ab")))
    assert (one.take_text(), one.take_scores()) == ("ab", [])
