"""A reply ends at the same place, for the same reason, however its tokens are cut into items."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.errors import InvalidArgument
from muster.llm.detokenizer import ByteDetokenizer, TokenTable
from muster.llm.protocol import StopConditions
from muster.llm.stop_strings import (
    MAX_STOP_CHARACTERS,
    MAX_STOP_STRINGS,
    StopAutomaton,
    StopStringScanner,
)
from muster.llm.stops import Step, StopChecker, StopRules

# ids 0..5 read "a".."f", 6 and 7 are the halves of "é", 8 reads "abc", 9 has no text
TEXTS: list[str] = [*"abcdef", "", "", "abc", ""]
TABLE: list[str | bytes] = [*"abcdef", b"\xc3", b"\xa9", "abc", ""]
EOS = 9


def checker(rules: StopRules) -> StopChecker:
    return StopChecker(rules, ByteDetokenizer(TokenTable(dict(enumerate(TABLE)).get, "")))


def rules(eos: Sequence[int] = (EOS,), *, keep: bool = False, **conditions: object) -> StopRules:
    return StopRules.of(
        StopConditions(**conditions),  # type: ignore[arg-type] # keywords by name
        eos_token_ids=eos,
        include_stop_str_in_output=keep,
    )


def run(checker: StopChecker, items: Sequence[Sequence[int]]) -> tuple[str, str | None, int]:
    """The whole reply: its text, why it ended, and how many tokens it took."""
    text, tokens = "", 0
    for item in items:
        step = checker.push(item)
        text += step.text
        tokens += step.tokens
        if step.finish_reason is not None:
            assert checker.finished
            return text, step.finish_reason, tokens
        assert step.tokens == len(item)
    last = checker.flush()
    return text + last.text, last.finish_reason, tokens


def reference(rules_: StopRules, strings: Sequence[str], ids: Sequence[int]) -> tuple[str, int]:
    """The same, the slow and simple way: look at everything again after each token."""
    text = ""
    for count, token_id in enumerate(ids, 1):
        active = count > rules_.min_tokens
        if active and token_id in rules_.hidden_ids:
            return text, count
        before = len(text)
        text += TEXTS[token_id]
        if active:
            for end in range(before + 1, len(text) + 1):
                ending = [string for string in strings if text[:end].endswith(string)]
                if ending:
                    longest = max(map(len, ending))
                    return text[: end if rules_.keep_stop_string else end - longest], count
        if (active and token_id in rules_.visible_ids) or count >= rules_.max_tokens:
            return text, count
    return text, len(ids)


@st.composite
def cases(draw: st.DrawFn) -> tuple[StopRules, list[str], list[int], list[list[int]]]:
    strings = draw(st.lists(st.text("abc", min_size=1, max_size=4), max_size=4))
    made = rules(
        keep=draw(st.booleans()),
        stop=strings or None,
        stop_token_ids=draw(st.lists(st.sampled_from([3, EOS]), max_size=2)),
        stop_token_ids_visible=draw(st.lists(st.sampled_from([3, 4]), max_size=2)),
        min_tokens=draw(st.none() | st.integers(0, 6)),
        max_tokens=draw(st.none() | st.integers(1, 15)),
        ignore_eos=draw(st.none() | st.booleans()),
    )
    likely = st.sampled_from([0, 0, 0, 1, 1, 1, 2, 2, 8, 8, 3, 4, EOS])
    ids = draw(st.lists(likely, max_size=20))
    cuts = sorted(draw(st.lists(st.integers(0, len(ids)), max_size=6)))
    bounds = [0, *cuts, len(ids)]
    items = [ids[low:high] for low, high in itertools.pairwise(bounds)]
    return made, strings, ids, items


@given(cases())
def test_any_split_ends_at_the_same_token_with_the_same_text(
    case: tuple[StopRules, list[str], list[int], list[list[int]]],
) -> None:
    made, strings, ids, items = case
    text, _, tokens = run(checker(made), items)
    assert (text, tokens) == reference(made, strings, ids)


@given(cases())
def test_any_split_ends_for_the_same_reason(
    case: tuple[StopRules, list[str], list[int], list[list[int]]],
) -> None:
    made, _, ids, items = case
    assert run(checker(made), items) == run(checker(made), [[token_id] for token_id in ids])


@given(
    st.lists(st.text("ab", min_size=1, max_size=5), min_size=1, max_size=5),
    st.lists(st.text("abc", max_size=6), max_size=10),
)
def test_text_is_held_back_only_while_a_stop_string_may_have_begun(
    strings: list[str], pieces: list[str]
) -> None:
    scanner = StopStringScanner(StopAutomaton(tuple(strings)))
    shown, seen = "", ""
    for piece in pieces:
        text, stop = scanner.push(piece)
        shown, seen = shown + text, seen + piece
        if stop is not None:
            return
        held = seen[len(shown) :]
        beginnings = [
            length
            for length in range(1, len(seen) + 1)
            if any(string.startswith(seen[-length:]) for string in strings)
        ]
        assert len(held) == max(beginnings, default=0)


class TestEndOfSequence:
    def test_ends_the_reply_without_its_text(self) -> None:
        step = checker(rules(eos=[1])).push([0, 1, 2])
        assert step == Step("a", "stop", 2, 1)

    def test_ignored_on_request(self) -> None:
        step = checker(rules(eos=[1], ignore_eos=True)).push([0, 1, 2])
        assert step == Step("abc", None, 3)

    def test_hidden_ids_of_the_conditions_count_too(self) -> None:
        assert checker(rules(stop_token_ids_hidden=[2])).push([0, 2]) == Step("a", "stop", 2, 2)

    def test_shows_what_was_left_of_a_character(self) -> None:
        assert checker(rules()).push([0, 6, EOS]) == Step("a\ufffd", "stop", 3, EOS)

    def test_shows_what_was_held_back(self) -> None:
        assert checker(rules(stop=["abd"])).push([0, 1, EOS]) == Step("ab", "stop", 3, EOS)

    def test_a_hidden_id_that_the_client_named_stays_hidden(self) -> None:
        step = checker(rules(eos=[1], stop_token_ids_visible=[1])).push([0, 1])
        assert step == Step("a", "stop", 2, 1)


class TestStopTokenIds:
    def test_end_the_reply_without_their_text(self) -> None:
        assert checker(rules(stop_token_ids=[1], keep=True)).push([0, 1, 2]) == (
            Step("a", "stop", 2, 1)
        )

    def test_visible_ones_end_the_reply_with_their_text(self) -> None:
        assert checker(rules(stop_token_ids_visible=[1])).push([0, 1, 2]) == (
            Step("ab", "stop", 2, 1)
        )

    def test_count_under_ignore_eos(self) -> None:
        step = checker(rules(ignore_eos=True, stop_token_ids=[1])).push([1])
        assert step.finish_reason == "stop"


class TestMaxTokens:
    def test_reached_ends_the_reply_though_the_engine_goes_on(self) -> None:
        limited = checker(rules(max_tokens=2))
        assert limited.push([0]) == Step("a", None, 1)
        assert limited.push([1, 2, 3]) == Step("b", "length", 1)
        assert limited.push([0]) == Step("")
        assert limited.flush() == Step("")
        assert limited.tokens == 2

    def test_a_stop_at_the_last_token_is_a_stop(self) -> None:
        assert checker(rules(max_tokens=2)).push([0, EOS]).finish_reason == "stop"
        assert checker(rules(max_tokens=1, stop=["a"])).push([0]).finish_reason == "stop"

    def test_shows_what_was_held_back(self) -> None:
        assert checker(rules(max_tokens=2, stop=["abc"])).push([0, 1]) == Step("ab", "length", 2)

    def test_below_one_is_refused(self) -> None:
        with pytest.raises(InvalidArgument, match="greater than 0, got 0"):
            rules(max_tokens=0)


class TestMinTokens:
    def test_holds_off_every_kind_of_stop(self) -> None:
        patient = checker(rules(stop=["b"], stop_token_ids=[2], min_tokens=4))
        assert patient.push([1, 2, EOS, 1]) == Step("bcb", None, 4)
        assert patient.push([1]) == Step("", "stop", 1, "b")

    def test_does_not_hold_off_the_limit(self) -> None:
        assert checker(rules(min_tokens=4, max_tokens=2)).push([0, 1, 2]) == (
            Step("ab", "length", 2)
        )


class TestStopStrings:
    def test_the_string_and_what_follows_are_dropped(self) -> None:
        assert checker(rules(stop=["cd"])).push([0, 1, 2, 3, 4]) == Step("ab", "stop", 4, "cd")

    def test_kept_on_request(self) -> None:
        step = checker(rules(stop=["cd"], keep=True)).push([0, 1, 2, 3, 4])
        assert step == Step("abcd", "stop", 4, "cd")

    def test_the_first_complete_wins(self) -> None:
        assert checker(rules(stop=["abc", "b"])).push([8]) == Step("a", "stop", 1, "b")

    def test_of_two_complete_at_once_the_longer_wins(self) -> None:
        assert checker(rules(stop=["c", "bc"])).push([8]) == Step("a", "stop", 1, "bc")

    def test_a_beginning_that_comes_to_nothing_is_shown(self) -> None:
        stopping = checker(rules(stop=["abd"]))
        assert stopping.push([0]).text == ""
        assert stopping.push([1]).text == ""
        assert stopping.push([2]).text == "abc"

    def test_found_in_what_is_left_at_the_end(self) -> None:
        stopping = checker(rules(stop=["\ufffd"]))
        assert stopping.push([0, 6]) == Step("a", None, 2)
        assert stopping.flush() == Step("", "stop", 0, "\ufffd")

    def test_at_most_32(self) -> None:
        many = [f"s{number}" for number in range(MAX_STOP_STRINGS)]
        assert rules(stop=many).strings is not None
        with pytest.raises(InvalidArgument, match="Maximum of 32 stop sequences allowed, got 33"):
            rules(stop=[*many, "one more"])

    def test_never_empty(self) -> None:
        with pytest.raises(InvalidArgument, match="cannot be empty"):
            rules(stop=["a", ""])

    def test_not_too_long_together(self) -> None:
        assert rules(stop=["x" * MAX_STOP_CHARACTERS]).strings is not None
        with pytest.raises(InvalidArgument, match="65537 characters"):
            rules(stop=["x" * MAX_STOP_CHARACTERS, "y"])


class TestTextFromTheEngine:
    def test_is_used_as_it_is(self) -> None:
        assert checker(rules()).push([0, 1], "AB") == Step("AB", None, 2)
        assert checker(rules(stop=["zz"])).push([0, 1], "AB") == Step("AB", None, 2)

    def test_is_searched_for_stop_strings(self) -> None:
        stopping = checker(rules(stop=["XY"]))
        assert stopping.push([0], "AX") == Step("A", None, 1)
        assert stopping.push([1], "YB") == Step("", "stop", 1, "XY")

    def test_ends_with_the_item_that_holds_the_end(self) -> None:
        assert checker(rules()).push([0, EOS], "A") == Step("A", "stop", 2, EOS)
        assert checker(rules(max_tokens=2)).push([0, 1], "AB") == Step("AB", "length", 2)

    def test_gives_way_to_our_own_decoding_if_the_reply_ends_before_the_item(self) -> None:
        assert checker(rules()).push([0, EOS, 1], "AxB") == Step("a", "stop", 2, EOS)

    def test_may_come_without_tokens(self) -> None:
        stopping = checker(rules(max_tokens=1, stop=["zz"]))
        assert stopping.push([], "A") == Step("A", None, 0)
        assert stopping.push([0]) == Step("a", "length", 1)


def test_an_item_without_tokens_shows_nothing() -> None:
    assert checker(rules()).push([]) == Step("")
    assert checker(rules(stop=["a"], max_tokens=1)).push([]) == Step("")


def test_finding_stays_cheap_for_a_stop_string_made_to_be_slow() -> None:
    scanner = StopStringScanner(StopAutomaton(("a" * 20_000 + "b",)))
    shown = "".join(scanner.push("a" * 100)[0] for _ in range(600))
    assert len(shown) == 40_000
