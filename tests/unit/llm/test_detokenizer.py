"""What streams out must be what ``tokenizers`` decodes at once, however the ids are cut."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, trainers

from muster.llm.tokenizer import Tokenizer

SHARED = Path(__file__).resolve().parents[3] / ".." / "shared"
DEEPSEEK = SHARED / "models" / "deepseek" / "tokenizer.json"

CORPUS = [
    "The quick brown fox jumps over the lazy dog, doesn't it? Yes! It's 12,345 times.",
    "Größenwahn und naïve Cafés: äöü ÄÖÜ ß — « guillemets »",
    "你好，世界！ これはテストです。 한국어 텍스트",  # noqa: RUF001 - the point
    "emoji 🙂🙃👩‍👩‍👧‍👦 and   many    spaces\n\n\ttabs\r\n",
]


def _byte_level() -> tokenizers.Tokenizer:
    hf = tokenizers.Tokenizer(models.BPE())
    hf.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    hf.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<s>", "<|im_end|>"],
        show_progress=False,
    )
    hf.train_from_iterator(CORPUS, trainer)
    # in and out of the byte alphabet, with a space, and reading as bytes that are not UTF-8
    hf.add_tokens(["<｜tool｜>", "two words", "é", AddedToken("plain")])  # noqa: RUF001 - as DeepSeek spells them
    hf.add_special_tokens(["<｜end｜>"])  # noqa: RUF001 - the same
    return hf


def _llama_like(decoder: decoders.Decoder) -> tokenizers.Tokenizer:
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += ["▁", "▁▁", "▁Hello", "▁world", "ing", "▁你", "好", "a", "b", "▁a▁b", "\n", " x"]
    hf = tokenizers.Tokenizer(
        models.BPE(
            vocab={piece: index for index, piece in enumerate(pieces)},
            merges=[],
            unk_token="<unk>",
            byte_fallback=True,
            fuse_unk=True,
        )
    )
    hf.decoder = decoder
    hf.add_special_tokens(["<unk>", "<s>", "</s>"])
    hf.add_tokens(["<tool▁call>", "<0x+A>", "<0xé>"])
    return hf


def _words(decoder: decoders.Decoder | None) -> tokenizers.Tokenizer:
    words = ["[UNK]", "[CLS]", "[SEP]", "hello", "world", "##ing", "##s", ".", "?", "n't", "do"]
    words += ["▁hello", "▁", "wor▁ld", "'", "'s", "do not", "aab", "##", "▁▁x", "", "é"]
    hf = tokenizers.Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]")
    )
    if decoder is not None:
        hf.decoder = decoder
    hf.add_special_tokens(["[CLS]", "[SEP]"])
    return hf


LLAMA = decoders.Sequence(
    [
        decoders.Replace("▁", " "),
        decoders.ByteFallback(),
        decoders.Fuse(),
        decoders.Strip(" ", 1, 0),
    ]
)
GEMMA = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])

BUILDERS: dict[str, Callable[[], tokenizers.Tokenizer]] = {
    "byte level": _byte_level,
    "llama": functools.partial(_llama_like, LLAMA),
    "gemma": functools.partial(_llama_like, GEMMA),
    "metaspace": functools.partial(_words, decoders.Metaspace()),
    "metaspace, prefix never": functools.partial(_words, decoders.Metaspace("▁", "never")),
    "metaspace and bytes": functools.partial(
        _llama_like, decoders.Sequence([decoders.Metaspace(), decoders.ByteFallback()])
    ),
    "word piece": functools.partial(_words, decoders.WordPiece()),
    "word piece, no cleanup": functools.partial(_words, decoders.WordPiece(cleanup=False)),
    "no decoder": functools.partial(_words, None),
    "fused": functools.partial(_words, decoders.Fuse()),
    "strip each": functools.partial(_words, decoders.Strip("h", 1, 0)),
    "strip three": functools.partial(
        _llama_like,
        decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 3, 0)]),
    ),
    "regular expression": functools.partial(_words, decoders.Replace(Regex("[ao]+"), "0")),
    "end of word": functools.partial(_words, decoders.BPEDecoder()),
    "replace after fuse": functools.partial(
        _words, decoders.Sequence([decoders.Fuse(), decoders.Replace("##", "")])
    ),
}
NOT_STREAMED = {"end of word", "replace after fuse"}


class Pair:
    """Our tokenizer and the library's own, from one file."""

    def __init__(self, path: Path) -> None:
        self.ours = Tokenizer.load(path)
        self.theirs = tokenizers.Tokenizer.from_file(str(path))

    def stream(self, pieces: Sequence[Sequence[int]], *, skip_special_tokens: bool) -> list[str]:
        detokenizer = self.ours.new_detokenizer(skip_special_tokens=skip_special_tokens)
        return [*(detokenizer.push(piece) for piece in pieces), detokenizer.flush()]

    def check(self, pieces: Sequence[Sequence[int]], *, skip_special_tokens: bool) -> None:
        ids = [token_id for piece in pieces for token_id in piece]
        expected = self.theirs.decode(ids, skip_special_tokens=skip_special_tokens)
        shown = self.stream(pieces, skip_special_tokens=skip_special_tokens)
        assert "".join(shown) == expected
        assert self.ours.decode(ids, skip_special_tokens=skip_special_tokens) == expected


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    directory = tmp_path_factory.mktemp("tokenizers")
    made = {}
    for number, (name, build) in enumerate(BUILDERS.items()):
        path = directory / f"{number}.json"
        build().save(str(path))
        made[name] = Pair(path)
    return made


@functools.cache
def _deepseek() -> Pair:
    if not DEEPSEEK.is_file():
        pytest.skip("the shared DeepSeek tokenizer is not there")
    return Pair(DEEPSEEK)


def _splits(limit: int) -> st.SearchStrategy[list[list[int]]]:
    """Sequences of ids, some unknown, cut anywhere, with empty pieces."""
    return st.lists(st.lists(st.integers(0, limit + 3), max_size=4), max_size=12)


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("skip", [True, False])
def test_any_split_decodes_as_the_whole_does(name: str, skip: bool, pairs: dict[str, Pair]) -> None:
    pair = pairs[name]

    @settings(max_examples=150, deadline=None)
    @given(_splits(pair.ours.vocab_size))
    def check(pieces: list[list[int]]) -> None:
        pair.check(pieces, skip_special_tokens=skip)

    check()


@pytest.mark.parametrize("name", BUILDERS)
def test_every_single_token_decodes_as_in_the_library(name: str, pairs: dict[str, Pair]) -> None:
    for token_id in range(pairs[name].ours.vocab_size + 2):
        for skip in (True, False):
            pairs[name].check([[token_id]], skip_special_tokens=skip)
            pairs[name].check([[3], [token_id]], skip_special_tokens=skip)


@pytest.mark.parametrize("name", BUILDERS)
def test_only_decoders_that_need_the_whole_are_not_streamed(
    name: str, pairs: dict[str, Pair]
) -> None:
    assert pairs[name].ours.streams is (name not in NOT_STREAMED)


@settings(max_examples=300, deadline=None)
@given(_splits(129_280))
def test_deepseek_any_split_decodes_as_the_whole_does(pieces: list[list[int]]) -> None:
    _deepseek().check(pieces, skip_special_tokens=True)
    _deepseek().check(pieces, skip_special_tokens=False)


def test_deepseek_every_token_decodes_as_in_the_library() -> None:
    pair = _deepseek()
    for token_id in range(pair.ours.vocab_size + 2):
        shown = pair.stream([[token_id]], skip_special_tokens=False)
        assert "".join(shown) == pair.theirs.decode([token_id], skip_special_tokens=False)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60), st.integers(0, 2**32))
def test_deepseek_text_comes_back_however_its_ids_are_cut(text: str, seed: int) -> None:
    pair = _deepseek()
    ids = pair.ours.encode(text)
    assert ids == pair.theirs.encode(text, add_special_tokens=False).ids
    cut = random.Random(seed)
    pieces, at = [], 0
    while at < len(ids):
        step = cut.randint(1, 5)
        pieces.append(ids[at : at + step])
        at += step
    shown = pair.stream(pieces, skip_special_tokens=False)
    assert "".join(shown) == pair.theirs.decode(ids, skip_special_tokens=False)
    assert not any("\ufffd" in piece for piece in shown) or "\ufffd" in text


def test_a_character_of_several_tokens_shows_when_its_last_token_comes() -> None:
    pair = _deepseek()
    ids = pair.ours.encode("🙃")
    assert len(ids) > 1
    shown = pair.stream([[token_id] for token_id in ids], skip_special_tokens=True)
    assert shown == [""] * (len(ids) - 1) + ["🙃", ""]


def test_an_incomplete_character_at_the_end_becomes_one_replacement() -> None:
    pair = _deepseek()
    ids = pair.ours.encode("🙃")[:-1]
    shown = pair.stream([ids], skip_special_tokens=True)
    assert shown == ["", "\ufffd"]


def test_a_plain_token_shows_at_once(pairs: dict[str, Pair]) -> None:
    for name in ("byte level", "llama", "gemma", "no decoder"):
        pair = pairs[name]
        token_id = pair.ours.find_token("a")
        if token_id is not None:
            assert pair.stream([[token_id]], skip_special_tokens=True)[0] == "a"


def test_a_run_of_byte_tokens_waits_for_its_end(pairs: dict[str, Pair]) -> None:
    pair = pairs["llama"]
    ids = [pair.ours.find_token(f"<0x{byte:02X}>") for byte in "é".encode()]
    after = pair.ours.find_token("a")
    assert after is not None
    pieces = [[token_id] for token_id in ids if token_id is not None]
    assert pair.stream([*pieces, [after]], skip_special_tokens=True) == ["", "", "éa", ""]


def test_negative_ids_have_no_text(pairs: dict[str, Pair]) -> None:
    for name in BUILDERS:
        known = pairs[name].ours.find_token("a") or 3
        with_negative = pairs[name].stream([[-1], [known, -5]], skip_special_tokens=True)
        without = pairs[name].stream([[known]], skip_special_tokens=True)
        assert "".join(with_negative) == "".join(without)


def test_streams_do_not_share_state(pairs: dict[str, Pair]) -> None:
    tokenizer = pairs["llama"].ours
    first, second = tokenizer.new_detokenizer(), tokenizer.new_detokenizer()
    hello = tokenizer.find_token("▁Hello")
    assert hello is not None
    assert first.push([hello]) == "Hello"
    assert first.push([hello]) == " Hello"
    assert second.push([hello]) == "Hello"
