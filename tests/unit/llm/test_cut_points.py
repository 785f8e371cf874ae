"""Cutting long texts: what is cut has the ids of the whole, and what cannot be proven is not cut."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, trainers
from tokenizers import normalizers as norm
from tokenizers import pre_tokenizers as pre

from muster.llm import tokenizer as subject
from muster.llm.cut_points import can_be_cut, cut
from muster.llm.tiktoken_family import find_family

DEEPSEEK = (
    r"\p{N}{1,3}",
    "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
    (
        "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
        "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"
    ),
)
TEKKEN = (
    (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
        r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
        r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
)
ADDED = (
    AddedToken("<|user|>", special=True, normalized=False),
    AddedToken("<|end|>", special=True, lstrip=True, rstrip=True),
    AddedToken("bab", single_word=True),
    AddedToken("aa"),
    AddedToken(" \n "),
)
CORPUS = ["a ab\n\n abba  b'll  12 345。漢字 é!\n", "  ab  ab ab a\n\na\n b", "AaB bAa  \t\n"] * 3


def family(name: str) -> tuple[str, ...]:
    return (find_family(Path(name), tokenizer_config={}, model_type=None).pattern,)


def kimi() -> tuple[str, ...]:
    return (find_family(Path("x"), tokenizer_config={}, model_type="kimi_k2").pattern,)


PATTERNS = {
    "deepseek": DEEPSEEK,
    "tekken": TEKKEN,
    "gpt2": family("gpt2.tiktoken"),
    "cl100k": family("cl100k_base.tiktoken"),
    "o200k": family("o200k_base.tiktoken"),
    "qwen": family("qwen.tiktoken"),
    "kimi": kimi(),
    "byte-level": (),
}


@functools.cache
def tokenizer(name: str, *, composes: bool = False) -> Tokenizer:
    """A tokenizer that splits as the models of that name do, trained on a few words."""
    patterns = PATTERNS[name]
    hf = Tokenizer(models.BPE())
    hf.normalizer = norm.NFC() if composes else norm.Sequence([])
    hf.pre_tokenizer = pre.Sequence(
        [
            *(pre.Split(Regex(pattern), "isolated") for pattern in patterns),
            pre.ByteLevel(add_prefix_space=False, use_regex=not patterns),
        ]
    )
    hf.decoder = decoders.ByteLevel()
    alphabet = pre.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet, show_progress=False)
    hf.train_from_iterator(CORPUS, trainer)
    hf.add_tokens(list(ADDED))
    return hf


def state(part: Any) -> Any:
    return json.loads(part.__getstate__())


def cuttable(hf: Tokenizer) -> bool:
    added = hf.get_added_tokens_decoder().values()
    return can_be_cut(state(hf.normalizer), state(hf.pre_tokenizer), added)


def ids(hf: Tokenizer, text: str) -> list[int]:
    found: list[int] = hf.encode_batch_fast([text], add_special_tokens=False)[0].ids
    return found


def words(hf: Tokenizer, text: str) -> list[str]:
    return [word for word, _ in hf.pre_tokenizer.pre_tokenize_str(text)]


PIECES = st.sampled_from(
    [
        *"abABszé漢ー 1٣。'-/_.\u0301\u212b\u00a0\u2003\u200d\t\r\n",
        "  ",
        "\n\n",
        "a \u0301",
        "'s ",
        "'LL\n",
    ]
    + [token.content for token in ADDED]
)
TEXTS = st.lists(PIECES, max_size=40).map("".join) | st.text(max_size=40)


@pytest.mark.parametrize("composes", [False, True])
@pytest.mark.parametrize("name", PATTERNS)
@given(text=TEXTS, at_least=st.integers(1, 6))
@example(text="a  b a\n\n b a \u0301 s<|end|>  bab bab", at_least=1)
def test_a_text_in_pieces_has_the_words_and_the_ids_of_the_whole(
    name: str, composes: bool, text: str, at_least: int
) -> None:
    hf = tokenizer(name, composes=composes)
    assert cuttable(hf)
    pieces = cut(text, at_least=at_least)
    assert "".join(pieces) == text
    assert [word for piece in pieces for word in words(hf, piece)] == words(hf, text)
    assert [token_id for piece in pieces for token_id in ids(hf, piece)] == ids(hf, text)


def test_pieces_end_before_white_space_after_a_letter_and_have_a_length() -> None:
    assert cut("one two\nthree. four 5 6", at_least=2) == ["one", " two", "\nthree. four", " 5 6"]
    assert cut("one two three", at_least=5) == ["one two", " three"]
    assert cut("1 2 3", at_least=1) == ["1 2 3"]
    assert cut("") == [""]


@pytest.mark.parametrize(
    "splits",
    [
        pre.Metaspace(),
        pre.Whitespace(),
        pre.BertPreTokenizer(),
        pre.ByteLevel(add_prefix_space=True),
        pre.ByteLevel(add_prefix_space=False, use_regex=False),
        pre.Split(Regex(r"\w+ \w+|\s+"), "isolated"),
        pre.Split(Regex(r"(?<=a)\s|\s+"), "isolated"),
        pre.Split(Regex(r"\s+"), "merged_with_previous"),
        pre.Split(Regex(r"\s+"), "isolated", invert=True),
        pre.Split(" ", "isolated"),
        pre.Sequence([pre.Split(Regex(r"\s+"), "isolated"), pre.Punctuation()]),
        pre.Sequence(
            [
                pre.ByteLevel(add_prefix_space=False, use_regex=False),
                pre.Split(Regex(r" ?\p{L}+|\s+"), "isolated"),
            ]
        ),
    ],
    ids=str,
)
def test_what_splits_in_ways_not_known_is_not_cut(splits: Any) -> None:
    assert not can_be_cut(None, state(splits), ())


def test_a_tokenizer_that_does_not_split_is_not_cut() -> None:
    assert not can_be_cut(None, None, ())


@pytest.mark.parametrize("normalizer", [norm.NFKC(), norm.Lowercase(), norm.Prepend("x")], ids=str)
def test_what_changes_more_than_composition_is_not_cut(normalizer: Any) -> None:
    splits = state(pre.ByteLevel(add_prefix_space=False))
    assert can_be_cut(state(norm.NFC()), splits, ())
    assert not can_be_cut(state(normalizer), splits, ())


@pytest.mark.parametrize(
    "token",
    [
        AddedToken("new york"),
        AddedToken("a\n"),
        AddedToken("\u212a x"),
        AddedToken("end", rstrip=True),
        AddedToken(" the", single_word=True),
    ],
    ids=str,
)
def test_tokens_that_reach_over_a_cut_forbid_it(token: AddedToken) -> None:
    splits = state(pre.ByteLevel(add_prefix_space=False))
    assert can_be_cut(None, splits, ADDED)
    assert not can_be_cut(None, splits, (*ADDED, token))


def test_a_long_text_and_short_ones_get_the_ids_of_the_whole(tmp_path: Path) -> None:
    hf = tokenizer("deepseek")
    file = tmp_path / "tokenizer.json"
    hf.save(str(file))
    loaded = subject.Tokenizer.load(file)
    long = "ab abba<|user|>  a'll 12\n\n ba b。" * 1500
    assert len(cut(long)) > 2
    texts = ["a b", long, "", long[1:], "b"]
    assert loaded.encode_batch(texts) == [ids(hf, text) for text in texts]
