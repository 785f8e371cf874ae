from __future__ import annotations

import re
from itertools import islice
from pathlib import Path

import pytest
from tokenizers import Tokenizer as HfTokenizer
from tokenizers import decoders, models, pre_tokenizers

from muster.errors import CardError, InvalidArgument
from muster.llm.tokenizer import Tokenizer
from muster.worker.engines.vocabulary import Vocabulary, choose_words


def _word_level(path: Path, words: list[str], special: list[str] = []) -> Tokenizer:  # noqa: B006
    hf = HfTokenizer(
        models.WordLevel({word: n for n, word in enumerate(words)}, unk_token=words[0])
    )
    hf.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    hf.decoder = decoders.ByteLevel()
    hf.add_special_tokens(special)
    hf.save(str(path / "tokenizer.json"))
    return Tokenizer.load(path / "tokenizer.json")


def test_words_are_words_after_a_space_and_never_special(tokenizer_path: Path) -> None:
    tokenizer = Tokenizer.load(tokenizer_path)
    words = choose_words(tokenizer)
    assert len(words) >= 32
    assert not tokenizer.special_ids & set(words)
    assert all(re.fullmatch(rb" [A-Za-z]{2,12}", tokenizer.token_bytes(word)) for word in words)


def test_a_poor_vocabulary_gives_printable_ascii(tmp_path: Path) -> None:
    letters = [chr(code) for code in range(0x21, 0x7F)]
    tokenizer = _word_level(tmp_path, [*letters, "Ġof", "é", "<s>"], ["<s>"])
    assert choose_words(tokenizer) == [*range(len(letters) + 1)]


def test_a_vocabulary_without_ascii_gives_what_text_it_has(tmp_path: Path) -> None:
    spelled = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str("模")[0][0]
    tokenizer = _word_level(tmp_path, ["<s>", spelled, spelled[:1], "Ċ"], ["<s>"])
    assert choose_words(tokenizer) == [1]


def test_a_vocabulary_without_any_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CardError, match="printable"):
        choose_words(_word_level(tmp_path, ["<s>"], ["<s>"]))


def test_draws_repeat_for_the_same_prompt_and_differ_otherwise() -> None:
    vocabulary = Vocabulary(range(1000, 2000))

    def draw(prompt: list[int], seed: int | None = None, index: int = 0) -> list[int]:
        return [*vocabulary.draw(vocabulary.start_of(prompt, seed, index), 20)]

    assert (
        draw([1, 2])
        == draw([1, 2])
        == [*Vocabulary(range(1000, 2000)).draw(vocabulary.start_of([1, 2], None, 0), 20)]
    )
    others = [
        draw([2, 1]),
        draw([1]),
        draw([]),
        draw([1, 2], 7),
        draw([1, 2], -7),
        draw([1, 2], None, 1),
    ]
    assert len({tuple(row) for row in [draw([1, 2]), *others]}) == 7


def test_a_draw_has_the_length_asked_for_also_beyond_the_table() -> None:
    vocabulary = Vocabulary(range(10))
    drawn = [*vocabulary.draw(65_000, 200_000)]
    assert len(drawn) == 200_000
    assert drawn[65_536 : 65_536 + 100] == drawn[:100]
    assert [*islice(vocabulary.draw(3, 1 << 60), 5)] == [*vocabulary.draw(3, 5)]


def test_what_is_banned_is_never_drawn() -> None:
    vocabulary = Vocabulary(range(10))
    for banned in ([3], [4, 5], [6], [7], [8], [9], [3]):
        assert set(vocabulary.draw(65_530, 5000, never=[*banned, 77])) == set(range(10)) - {*banned}
    with pytest.raises(InvalidArgument, match="ends the sequence"):
        vocabulary.draw(0, 1, never=range(10))


@pytest.mark.parametrize("token", [-1, 1 << 64])
def test_a_prompt_token_out_of_range_is_the_callers_fault(token: int) -> None:
    with pytest.raises(InvalidArgument, match="out of range"):
        Vocabulary([1]).start_of([token], None, 0)
