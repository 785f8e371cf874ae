"""tiktoken files give the ids tiktoken gives, and what is added to them the ids its list says."""

from __future__ import annotations

import base64
import json
import random
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import tiktoken
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers, trainers

from muster.errors import CardError, InvalidArgument
from muster.llm.decoder import token_to_bytes
from muster.llm.preprocessor import ModelFiles, Preprocessor
from muster.llm.tiktoken_family import Family, find_family
from muster.llm.tiktoken_file import build_tiktoken
from muster.llm.tokenizer import Tokenizer

CORPUS = [
    "The quick brown fox jumps over the lazy dog, doesn't it? Yes! It's 12,345 times; I'LL see.",
    "def f(x: int) -> list[int]:\n    return [x ** 2 for _ in range(10)]\n\n\t# done\r\n",
    "Größenwahn und naïve Cafés: äöü ÄÖÜ ß « guillemets »; HTTPServer camelCase XMLHttpRequest",
    "你好，世界！ これはテストです。 한국어 텍스트 中文English混合 北京市 Pascal",  # noqa: RUF001 - real text
    "emoji 🙂🙃👩‍👩‍👧‍👦 and   many    spaces\n\n  e\u0301 aaaaaaa bababab 1234567890 ١٢٣",
]
PIECES = [*" \n\t'", "'s", "'LL", "Hello", "wörld", "HTTPServer", "你好", "한", "123", "4", "x", "A",
          "e\u0301", "Å", "\u017f", "🙂", "\r\n", "   ", "aaaa", "ab", "ba", "!?", "\u3000", "\x00", "\u0661"]  # fmt: skip
FAMILIES = {
    "qwen": {"tokenizer_class": "QWenTokenizer"},
    "kimi": {"tokenizer_class": "TikTokenTokenizer"},
    "glm": {"tokenizer_class": "ChatGLM4Tokenizer"},
    "own pattern": {"pattern": r"\p{N}{1,2}+|[^\s\p{N}]++|\s+"},
}


def trained_ranks(size: int = 500) -> dict[bytes, int]:
    """Ranks as training makes them: bytes first, then each merge."""
    hf = tokenizers.Tokenizer(models.BPE())
    hf.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    hf.train_from_iterator(CORPUS * 2, trainer)
    return {token_to_bytes(token): rank for token, rank in hf.get_vocab().items()}


def write_ranks(path: Path, ranks: Mapping[bytes, int]) -> Path:
    lines = [b"%b %d\n" % (base64.b64encode(token), rank) for token, rank in ranks.items()]
    path.write_bytes(b"".join(lines))
    return path


def family_of(config: Mapping[str, Any], name: str = "tiktoken.model") -> Family:
    return find_family(Path(name), tokenizer_config=config, model_type=None)


def reference(
    ranks: Mapping[bytes, int], config: Mapping[str, Any], special: Mapping[str, int]
) -> tiktoken.Encoding:
    return tiktoken.Encoding(
        "test",
        pat_str=config.get("pattern") or family_of(config).pattern,
        mergeable_ranks=dict(ranks),
        special_tokens=dict(special),
    )


class Pair:
    """Our tokenizer and tiktoken's, from one file."""

    def __init__(self, directory: Path, name: str) -> None:
        config = FAMILIES[name]
        ranks = trained_ranks()
        self.ours = Tokenizer.load(
            write_ranks(directory / "tiktoken.model", ranks), tokenizer_config=config
        )
        self.theirs = reference(ranks, config, {})
        self.composes = family_of(config).composes

    def check(self, text: str) -> None:
        expected = self.theirs.encode(self._composed(text), disallowed_special=())
        assert self.ours.encode(text) == expected
        assert self.ours.decode(expected) == self.theirs.decode(expected)

    def _composed(self, text: str) -> str:
        return unicodedata.normalize("NFC", text) if self.composes else text


@pytest.fixture(scope="module", params=list(FAMILIES))
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair(tmp_path_factory.mktemp("tiktoken"), request.param)


class TestIds:
    @pytest.mark.parametrize("text", [*CORPUS, "", " "])
    def test_texts_have_the_ids_tiktoken_gives(self, pair: Pair, text: str) -> None:
        pair.check(text)

    @given(parts=st.lists(st.sampled_from(PIECES), max_size=12))
    def test_mixed_pieces_have_the_ids_tiktoken_gives(self, pair: Pair, parts: list[str]) -> None:
        pair.check("".join(parts))

    @given(text=st.text(st.characters(exclude_categories=["Cs", "Cn"]), max_size=20))
    def test_any_text_has_the_ids_tiktoken_gives(self, pair: Pair, text: str) -> None:
        pair.check(text)

    @given(seed=st.integers(0, 1 << 32), text=st.text("ab", max_size=24))
    def test_ranks_in_any_order_merge_as_tiktoken_does(self, seed: int, text: str) -> None:
        """Tokens that overlap with themselves, where it matters which of two is made first."""
        chance = random.Random(seed)
        tokens = {"".join(chance.choices("ab", k=chance.randint(2, 4))) for _ in range(12)}
        # as training makes them: each of two earlier ones
        ranks = {bytes([byte]): byte for byte in range(256)}
        for token in sorted(tokens, key=len):
            if any(token[:n].encode() in ranks and token[n:].encode() in ranks for n in (1, 2, 3)):
                ranks[token.encode()] = len(ranks)
        hf = build_tiktoken(ranks, Family(pattern=r"[\s\S]+"), {})
        theirs = tiktoken.Encoding(
            "test", pat_str=r"[\s\S]+", mergeable_ranks=ranks, special_tokens={}
        )
        assert hf.encode(text).ids == theirs.encode(text)


CONFIG: dict[str, Any] = {
    "tokenizer_class": "TikTokenTokenizer",
    "added_tokens_decoder": {
        "500": {"content": "[BOS]", "special": True},
        "503": {"content": "<|im_end|>", "special": True},
        "510": {"content": "<tool>", "special": False},
    },
}
WITH_HOLES = {**CONFIG, "tokenizer_class": "ChatGLM4Tokenizer"}


def load(directory: Path, config: Mapping[str, Any]) -> Tokenizer:
    path = write_ranks(directory / "tiktoken.model", trained_ranks())
    return Tokenizer.load(path, tokenizer_config=config)


@pytest.fixture(scope="module")
def streamed(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return load(tmp_path_factory.mktemp("streamed"), WITH_HOLES)


class TestAddedTokens:
    def test_ids_are_those_of_the_list_and_reserved_ones_fill_the_rest(
        self, tmp_path: Path
    ) -> None:
        ours = load(tmp_path, CONFIG)
        text = "[BOS]hi<|im_end|><tool><|reserved_token_501|>"
        hi = reference(trained_ranks(), CONFIG, {}).encode("hi")
        assert ours.encode(text) == [500, *hi, 503, 510, 501]
        assert ours.vocab_size == 500 + 256
        assert ours.decode([500, *hi, 503, 510]) == "hi<tool>"
        assert ours.decode([500, *hi], skip_special_tokens=False) == "[BOS]hi"
        assert 510 not in ours.special_ids

    def test_ids_may_have_holes_between_them(self, tmp_path: Path) -> None:
        ours = load(tmp_path, WITH_HOLES)
        assert ours.vocab_size == 511
        assert ours.find_text(502) is None
        assert ours.encode("<tool>[BOS]") == [510, 500]
        assert ours.decode([502, 510, 502]) == "<tool>"

    def test_the_first_qwen_has_special_tokens_without_a_list(self, tmp_path: Path) -> None:
        ours = load(tmp_path, {"tokenizer_class": "QWenTokenizer"})
        assert ours.encode("<|im_start|><|im_end|><|extra_0|>") == [501, 502, 503]
        assert ours.find_token("<|endoftext|>") == 500
        assert ours.decode([501, 502]) == ""

    def test_a_token_in_the_place_of_another_is_left_out_with_a_warning(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        config = {
            "tokenizer_class": "ChatGLM4Tokenizer",
            "added_tokens_decoder": {"7": {"content": "<|x|>", "special": True}},
        }
        ours = load(tmp_path, config)
        assert "<|x|>" in caplog.text
        assert ours.find_token("<|x|>") is None

    def test_a_whole_model_is_read(self, tmp_path: Path) -> None:
        write_ranks(tmp_path / "qwen.tiktoken", trained_ranks())
        template = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"
        (tmp_path / "tokenizer_config.json").write_text(
            json.dumps({"chat_template": template, "eos_token": "<|im_end|>"})
        )
        model = Preprocessor.load(ModelFiles.of_directory(tmp_path), context_length=0)
        text = "<|im_start|>Hello wörld<|im_end|>"
        assert model.encode(text) == model.tokenizer.encode(text)
        assert model.eos_token_ids == (502,)
        assert model.decode(model.encode(text), skip_special_tokens=False) == text

    @given(data=st.data())
    def test_a_stream_reads_as_the_whole_for_any_split(
        self, streamed: Tokenizer, data: st.DataObject
    ) -> None:
        """Also for ids that nobody has, added tokens and bytes that are no text."""
        ids = st.integers(0, streamed.vocab_size + 1)
        pieces = data.draw(st.lists(st.lists(ids, max_size=5), max_size=10))
        skip = data.draw(st.booleans())
        detokenizer = streamed.new_detokenizer(skip_special_tokens=skip)
        shown = [*(detokenizer.push(piece) for piece in pieces), detokenizer.flush()]
        whole = [token_id for piece in pieces for token_id in piece]
        assert "".join(shown) == streamed.decode(whole, skip_special_tokens=skip)


class TestFamilies:
    @pytest.mark.parametrize(
        ("name", "config", "model_type", "like"),
        [
            ("tiktoken.model", {}, "kimi_k2", "kimi"),
            ("tiktoken.model", {}, "deepseek_v3", "kimi"),
            ("tiktoken.model", {"tokenizer_class": "TikTokenTokenizer"}, None, "kimi"),
            ("qwen.tiktoken", {}, None, "qwen"),
            ("tokenizer.model", {}, "chatglm", "glm"),
        ],
    )
    def test_a_family_is_known_by_its_files(
        self, name: str, config: dict[str, str], model_type: str | None, like: str
    ) -> None:
        found = find_family(Path(name), tokenizer_config=config, model_type=model_type)
        assert found == family_of(FAMILIES[like])

    def test_what_is_not_known_is_split_as_gpt_4_does_and_says_so(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert family_of({}).pattern == family_of(FAMILIES["glm"]).pattern
        assert "splitting as GPT-4 does" in caplog.text


class TestBrokenFiles:
    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("IQ== 0\nIg==", "line 2"),
            ("IQ== 0\nIg== x\n", "line 2"),
            ("IQ== 0\nI!== 1\n", "line 2"),
            ("IQ== 0\nIQ== 1\n", "line 2"),
            ("IQ== 0\nIg== 0\n", "same rank"),
            ("IQ== 99999999\n", "line 1"),
            ("", "no tokens"),
        ],
    )
    def test_a_broken_file_is_named(self, tmp_path: Path, text: str, said: str) -> None:
        (tmp_path / "x.tiktoken").write_text(text)
        with pytest.raises(CardError, match=said) as caught:
            Tokenizer.load(tmp_path / "x.tiktoken")
        assert "x.tiktoken" in caught.value.message

    def test_a_byte_without_a_token_is_an_error_and_not_dropped(self, tmp_path: Path) -> None:
        ours = Tokenizer.load(write_ranks(tmp_path / "gpt2.tiktoken", {b"a": 0, b"b": 1}))
        assert ours.encode("abba") == [0, 1, 1, 0]
        with pytest.raises(InvalidArgument):
            ours.encode("abc")
