from __future__ import annotations

from collections.abc import Sequence

import pytest

from muster.errors import Disconnected, EngineError
from muster.frontend.choice import Choice
from muster.frontend.prompt_run import PromptRun
from muster.llm.protocol import EngineRequest, StopConditions
from muster.llm.stops import StopChecker, StopRules
from muster.runtime import Context
from muster.testing.loops import run
from muster.testing.scripted import ScriptedModel, ScriptedStream, outputs
from muster.testing.tiny_model import EOS, token_ids


async def started(model: ScriptedModel, n: int = 1) -> tuple[PromptRun, ScriptedStream]:
    served = model.served
    rules = StopRules.of(StopConditions(), eos_token_ids=served.preprocessor.eos_token_ids)
    choices = [
        Choice(index, StopChecker(rules, served.preprocessor.new_detokenizer()))
        for index in range(n)
    ]
    prompt = PromptRun(EngineRequest(model="tiny", token_ids=[1]), choices)
    await prompt.start(served, Context("id"))
    return prompt, await model.next_stream()


async def step(prompt: PromptRun) -> Sequence[Choice]:
    """Read until something has changed; returns what."""
    steps: list[Sequence[Choice]] = []

    def changed(choices: Sequence[Choice]) -> bool:
        steps.append(choices)
        return False

    await prompt.read(changed)
    return steps[0]


def test_a_step_says_who_changed_and_by_how_much(model: ScriptedModel) -> None:
    async def test() -> None:
        prompt, stream = await started(model, n=3)
        stream.push(*outputs(token_ids("ab")), *outputs(token_ids("c"), index=2))
        changed = await step(prompt)
        assert [choice.index for choice in changed] == [0, 2]
        assert prompt.new_tokens == 3
        assert not prompt.finished

    run(test())


def test_an_index_nobody_asked_for_is_dropped(model: ScriptedModel) -> None:
    async def test() -> None:
        prompt, stream = await started(model, n=2)
        stream.push(*outputs(token_ids("x"), "stop", index=7))
        await step(prompt)
        assert prompt.new_tokens == 0
        assert not prompt.finished

    run(test())


def test_it_is_finished_when_every_choice_is(model: ScriptedModel) -> None:
    async def test() -> None:
        prompt, stream = await started(model, n=2)
        stream.push(*outputs(token_ids("a"), "stop", index=1)).push(*outputs([98], "stop")).end()
        await step(prompt)
        halfway = prompt.finished
        await step(prompt)
        assert (halfway, prompt.finished) == (False, True)
        await prompt.settle()
        prompt.close()
        assert not stream.killed.is_set()

    run(test())


def test_the_engine_is_stopped_once_we_have_ended_every_choice(model: ScriptedModel) -> None:
    async def test() -> None:
        prompt, stream = await started(model, n=2)
        stream.push(*outputs([EOS])).push(*outputs([EOS], index=1))
        await step(prompt)
        assert not stream.killed.is_set()
        await step(prompt)
        assert stream.killed.is_set()

    run(test())


def test_closing_early_stops_the_engine_once(model: ScriptedModel) -> None:
    async def test() -> None:
        prompt, stream = await started(model)
        prompt.close()
        assert stream.killed.is_set()
        stream.killed.clear()
        prompt.close()
        assert not stream.killed.is_set()

    run(test())


def test_a_clean_end_before_every_choice_began_is_an_error(model: ScriptedModel) -> None:
    async def test() -> None:
        prompt, stream = await started(model, n=2)
        stream.push(*outputs(token_ids("a"), "stop")).end()
        await step(prompt)
        with pytest.raises(EngineError):
            await step(prompt)

    run(test())


def test_an_error_of_the_stream_is_raised(model: ScriptedModel) -> None:
    async def test() -> None:
        prompt, stream = await started(model)
        stream.fail(Disconnected("gone"))
        with pytest.raises(Disconnected):
            await step(prompt)

    run(test())


def test_an_error_after_the_last_answer_is_of_no_interest(model: ScriptedModel) -> None:
    async def test() -> None:
        prompt, stream = await started(model)
        stream.push(*outputs(token_ids("a"), "stop")).fail(Disconnected("gone"))
        await step(prompt)
        await prompt.settle()
        assert prompt.finished

    run(test())
