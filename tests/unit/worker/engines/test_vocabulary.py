from __future__ import annotations

import re
from itertools import islice
from pathlib import Path

import pytest
from tokenizers import Regex, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as HfTokenizer

from muster.errors import CardError, InvalidArgument
from muster.llm.tokenizer import Tokenizer
from muster.worker.engines.vocabulary import Vocabulary
from muster.worker.engines.words import read_words


def _word_level(path: Path, words: list[str], special: list[str] = []) -> Path:  # noqa: B006
    hf = HfTokenizer(
        models.WordLevel({word: n for n, word in enumerate(words)}, unk_token=words[0])
    )
    hf.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    hf.decoder = decoders.ByteLevel()
    hf.add_special_tokens(special)
    hf.save(str(path / "tokenizer.json"))
    return path / "tokenizer.json"


def test_words_are_words_after_a_space_and_never_special(tokenizer_path: Path) -> None:
    tokenizer = Tokenizer.load(tokenizer_path)
    words = read_words(tokenizer_path).ids
    assert len(words) >= 32
    assert not tokenizer.special_ids & set(words)
    assert all(re.fullmatch(rb" [A-Za-z]{2,12}", tokenizer.token_bytes(word)) for word in words)


def test_a_poor_vocabulary_gives_printable_ascii(tmp_path: Path) -> None:
    letters = [chr(code) for code in range(0x21, 0x7F)]
    path = _word_level(tmp_path, [*letters, "Ġof", "é", "<s>"], ["<s>"])
    assert read_words(path).ids == [*range(len(letters) + 1)]


def test_a_vocabulary_without_ascii_gives_what_text_it_has(tmp_path: Path) -> None:
    spelled = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str("模")[0][0]
    path = _word_level(tmp_path, ["<s>", spelled, spelled[:1], "Ċ"], ["<s>"])
    assert read_words(path).ids == [1]


def test_a_vocabulary_without_any_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CardError, match="printable"):
        read_words(_word_level(tmp_path, ["<s>"], ["<s>"]))


def test_words_far_down_a_vocabulary_are_found_where_the_beginning_has_none(
    tmp_path: Path,
) -> None:
    words = ["<s>", *(f"Ċ{n}" for n in range(1, 20_000)), *(f"Ġ{'a' * n}" for n in range(2, 13))]
    assert read_words(_word_level(tmp_path, words, ["<s>"])).ids == [*range(20_000, 20_011)]


@pytest.mark.parametrize("name", ["bytes", "pieces", "unigram", "regular expression", "whole"])
def test_words_read_as_the_tokenizer_reads_them(tmp_path: Path, name: str) -> None:
    words = ["<unk>", *(f"▁{word}" for word in ("the", "quick", "brown")), "fox", "Ġjumps"]
    model: models.Model = models.WordLevel({w: n for n, w in enumerate(words)}, "<unk>")
    if name == "unigram":
        model = models.Unigram([(word, 0.0) for word in words], 0, byte_fallback=False)
    hf = HfTokenizer(model)
    hf.decoder = {
        "bytes": decoders.ByteLevel(),
        "pieces": decoders.Metaspace(),
        "unigram": decoders.Metaspace(),
        "regular expression": decoders.Replace(Regex("▁+"), " "),
        "whole": decoders.CTC(),
    }[name]
    hf.add_special_tokens(["<unk>"])
    hf.save(str(tmp_path / "tokenizer.json"))
    found = read_words(tmp_path / "tokenizer.json")
    tokenizer = Tokenizer.load(tmp_path / "tokenizer.json")
    assert found.ids
    assert not tokenizer.special_ids & set(found.ids)
    ours, theirs = found.new_detokenizer(), tokenizer.new_detokenizer()
    assert ours.push(found.ids) + ours.flush() == theirs.push(found.ids) + theirs.flush()


@pytest.mark.parametrize("text", [b"", b"{}", b"[1]", b'{"model":{"vocab":3}}'])
def test_what_is_no_tokenizer_is_refused_with_its_name(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "tokenizer.json").write_bytes(text)
    with pytest.raises(CardError, match=r"tokenizer\.json"):
        read_words(tmp_path / "tokenizer.json")


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
