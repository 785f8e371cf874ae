"""The ids of a prompt are the same whether its segments are remembered or not."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers

from muster.errors import InvalidArgument
from muster.llm.preprocessor import ModelFiles, Preprocessor
from muster.llm.prompt_encoder import AddedToken, PromptEncoder, find_boundaries
from muster.llm.tokenizer import Tokenizer
from muster.testing.tiny_model import write_tiny_model

DEEPSEEK = Path(__file__).resolve().parents[3] / ".." / "shared" / "models" / "deepseek"

TOKENS = [
    tokenizers.AddedToken("<|a|>", special=True, normalized=False),
    tokenizers.AddedToken("<|b|>", special=True, normalized=False, rstrip=True),
    tokenizers.AddedToken("<|left|>", special=True, normalized=False, lstrip=True),
    tokenizers.AddedToken("<|word|>", special=True, normalized=False, single_word=True),
    tokenizers.AddedToken("<|Norm|>", special=False, normalized=True),
    tokenizers.AddedToken("{d}", special=True, normalized=False),
    tokenizers.AddedToken("}e", special=False, normalized=False),
    tokenizers.AddedToken("[c]", special=True, normalized=False),
    tokenizers.AddedToken("[c]x", special=False, normalized=False),
    tokenizers.AddedToken("word", special=True, normalized=False),
]
SAFE = {"<|a|>", "<|b|>"}
PIECES = [token.content for token in TOKENS] + [
    "<|", "|>", "[", "]", "{", "}", "x", " ", "  ", "\n", "Hello", "wörld", "é", "e\u0301", "123", "▁"
]  # fmt: skip

NORMALIZERS = {
    "none": None,
    "empty": normalizers.Sequence([]),
    "nfc": normalizers.NFC(),
    "lowercase": normalizers.Lowercase(),
    "strip": normalizers.Strip(),
    "prepend": normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]),
}
PRE_TOKENIZERS = {
    "bytes": pre_tokenizers.ByteLevel(add_prefix_space=False),
    "bytes_prefix": pre_tokenizers.ByteLevel(add_prefix_space=True),
    "metaspace_first": pre_tokenizers.Metaspace(prepend_scheme="first"),
    "metaspace_always": pre_tokenizers.Metaspace(prepend_scheme="always"),
    "whitespace": pre_tokenizers.Whitespace(),
}


def tokenizer(directory: Path, normalizer: str, pre_tokenizer: str) -> Tokenizer:
    """A character vocabulary with all kinds of added tokens."""
    characters = sorted({*pre_tokenizers.ByteLevel.alphabet(), *"".join(PIECES), "▁"})
    vocabulary = {character: number for number, character in enumerate(characters)}
    merges = [("l", "l"), ("H", "e"), ("▁", "H"), ("Ġ", "H"), ("1", "2")]
    for left, right in merges:
        vocabulary[left + right] = len(vocabulary)
    made = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    if NORMALIZERS[normalizer] is not None:
        made.normalizer = NORMALIZERS[normalizer]
    made.pre_tokenizer = PRE_TOKENIZERS[pre_tokenizer]
    made.decoder = decoders.ByteLevel()
    made.add_tokens(TOKENS)
    path = directory / f"{normalizer}-{pre_tokenizer}.json"
    made.save(str(path))
    return Tokenizer.load(path)


@pytest.fixture(scope="module", params=[(n, p) for n in NORMALIZERS for p in PRE_TOKENIZERS])
def any_tokenizer(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Tokenizer:
    return tokenizer(tmp_path_factory.mktemp("tokenizers"), *request.param)


@given(pieces=st.lists(st.sampled_from(PIECES), max_size=12))
def test_the_ids_are_those_of_the_whole(any_tokenizer: Tokenizer, pieces: list[str]) -> None:
    text = "".join(pieces)
    added = any_tokenizer.added_tokens()
    boundaries = find_boundaries([token.text for token in added], added)
    assert set(boundaries) - {"<|Norm|>"} == SAFE
    encoder = PromptEncoder(any_tokenizer.encode_batch, boundaries)
    expected = any_tokenizer.encode(text)
    assert encoder.encode(text) == expected
    assert encoder.encode(text) == expected


@pytest.mark.skipif(not DEEPSEEK.is_dir(), reason="needs the shared model directory")
def test_a_real_vocabulary_gives_the_same_ids() -> None:
    preprocessor = Preprocessor.load(ModelFiles.of_directory(DEEPSEEK), context_length=0)
    marks = ("<|begin▁of▁sentence|>", "<|User|>", "<|Assistant|>", "<|end▁of▁sentence|>")
    bos, user, assistant, eos = (mark.replace("|", "\uff5c") for mark in marks)
    text = (
        f"{bos}System.\n\n{user}Grüße {user} 漢字\n\n 123456 {user[:-1]}{assistant}ok{eos}"
        f"{user}{assistant}"
    )
    assert preprocessor.tokenizer.find_token(user) in preprocessor.encode(text)
    for _ in range(2):
        assert preprocessor.encode(text) == preprocessor.tokenizer.encode(text)


def plain(*texts: str) -> list[AddedToken]:
    return [AddedToken(text, plain=True) for text in texts]


@pytest.mark.parametrize(
    ("added", "boundaries"),
    [
        (plain("<a>", "<b>"), ["<a>", "<b>"]),
        ([AddedToken("<a>", plain=False)], []),
        (plain("<a>", "<a>b"), []),
        (plain("<a>", "x<"), []),
        (plain("<a>", ">x"), []),
        (plain("a>", "_b"), []),
        (plain("  ", "\n"), []),
    ],
)
def test_only_tokens_that_no_other_can_disturb_are_boundaries(
    added: list[AddedToken], boundaries: list[str]
) -> None:
    assert find_boundaries([token.text for token in added], added) == boundaries


class Counting:
    """Encodes each character as its code point and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        self.asked += texts
        return [[ord(character) for character in text] for text in texts]


def test_only_segments_that_are_new_are_encoded() -> None:
    encode = Counting()
    encoder = PromptEncoder(encode, ["<s>", "<u>"])
    assert encoder.encode("hi<s>sys<u>one") == [ord(c) for c in "hi<s>sys<u>one"]
    assert encode.asked == ["hi", "<s>sys", "<u>one"]
    assert encoder.encode("<s>sys<u>two<s>sys") == [ord(c) for c in "<s>sys<u>two<s>sys"]
    assert encode.asked[3:] == ["<u>two"]


def test_a_prompt_without_boundaries_is_not_remembered() -> None:
    encode = Counting()
    for encoder in (PromptEncoder(encode, ["<s>"]), PromptEncoder(encode, [])):
        encoder.encode("plain")
        encoder.encode("plain")
        assert encoder.cached_bytes == 0
    assert encode.asked == ["plain"] * 4
    assert encoder.encode("") == []


def test_memory_is_bounded_and_the_oldest_is_forgotten_first() -> None:
    encode = Counting()
    encoder = PromptEncoder(encode, ["<"], cache_bytes=2000)
    encoder.encode("<first")
    encoder.encode("<second")
    for number in range(20):
        encoder.encode(f"<{number}")
        encoder.encode("<first")
        assert encoder.cached_bytes <= 2000
    assert encode.asked.count("<first") == 1
    encoder.encode("<second")
    assert encode.asked.count("<second") == 2


def test_a_segment_too_large_to_remember_is_encoded_each_time() -> None:
    encode = Counting()
    encoder = PromptEncoder(encode, ["<"], cache_bytes=2000)
    assert len(encoder.encode("<" + "x" * 500)) == 501
    assert encoder.cached_bytes == 0


def test_threads_may_share_it() -> None:
    encoder = PromptEncoder(Counting(), ["<"], cache_bytes=3000)
    wrong: list[str] = []

    def work(seed: int) -> None:
        for number in range(2000):
            text = f"<{(number * seed) % 17}<{number % 5}"
            if encoder.encode(text) != [ord(character) for character in text]:
                wrong.append(text)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert encoder.cached_bytes <= 3000


def test_a_failure_of_the_tokenizer_is_passed_on(tmp_path: Path) -> None:
    preprocessor = Preprocessor.load(
        ModelFiles.of_directory(write_tiny_model(tmp_path)), context_length=0
    )
    with pytest.raises(InvalidArgument):
        preprocessor.encode("<|im_start|>\ud800")
