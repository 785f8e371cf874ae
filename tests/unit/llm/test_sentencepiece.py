"""SentencePiece models give the ids and texts the SentencePiece library gives."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from muster.errors import CardError
from muster.llm.preprocessor import ModelFiles, Preprocessor
from muster.llm.sentencepiece_proto import Algorithm, PieceKind, read_sentencepiece
from muster.llm.tokenizer import Tokenizer

CORPUS = [
    "The quick brown fox jumps over the lazy dog, doesn't it? Yes! It's 12,345 times; see.",
    "def f(x: int) -> list[int]: return [x ** 2 for _ in range(10)] # done",
    "Größenwahn und naïve Cafés: äöü ÄÖÜ ß « guillemets »; camelCase",
    "你好，世界！ これはテストです。 한국어 텍스트",  # noqa: RUF001 - real text
    "aaaa aaaaaa abab ababab baba banana bandana, the other one and the third",
    "<sep>one<sep>two three",
]
PIECES = [*" \n\t'abx.", "The", "the ", "quick", "wörld", "你好", "한국", "12", "🙂", "   ", "▁",
          "aaaa", "ab", "ba", "<sep>", "!", "e\u0301", "\x00", "<0x41>", "ﬁ", "①"]  # fmt: skip

LLAMA = {
    "model_type": "bpe",
    "byte_fallback": True,
    "normalization_rule_name": "identity",
    "remove_extra_whitespaces": False,
    "split_digits": True,
}
MODELS: dict[str, dict[str, Any]] = {
    "llama": LLAMA,
    "gemma": {**LLAMA, "add_dummy_prefix": False},
    "symbols": {**LLAMA, "user_defined_symbols": ["<sep>", "ab"]},
    "bpe without bytes": {**LLAMA, "byte_fallback": False},
    "bpe that trims": {**LLAMA, "remove_extra_whitespaces": True},
    "unigram": {**LLAMA, "model_type": "unigram"},
    "unigram without bytes": {**LLAMA, "model_type": "unigram", "byte_fallback": False},
    "t5": {"model_type": "unigram"},
}


def train(**options: Any) -> bytes:
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 4),
        model_writer=written,
        vocab_size=420,
        hard_vocab_limit=False,
        character_coverage=0.99,
        minloglevel=2,
        **options,
    )
    return written.getvalue()


class Pair:
    """Our tokenizer and the library's, from one file."""

    def __init__(self, path: Path, data: bytes) -> None:
        path.write_bytes(data)
        self.ours = Tokenizer.load(path)
        self.theirs = sentencepiece.SentencePieceProcessor(model_proto=data)
        model = read_sentencepiece(data)
        self.unigram = model.algorithm is Algorithm.UNIGRAM
        self.symbols = tuple(p.text for p in model.pieces if p.kind is PieceKind.USER_DEFINED)

    def _score(self, ids: Sequence[int]) -> float:
        return sum(self.theirs.get_score(token_id) for token_id in ids)

    def check(self, text: str) -> None:
        expected = self.theirs.encode(text)
        if text.startswith(self.symbols):
            # the library puts a space before these too; transformers does not
            expected = expected[1:]
        shown = self.ours.encode(text)
        if shown != expected and self.unigram:
            # of two ways with the same score, rounding decides, which is not the same there
            assert self._score(shown) == pytest.approx(self._score(expected), rel=1e-5)
            assert self.theirs.decode(shown) == self.theirs.decode(expected)
        else:
            assert shown == expected, self.theirs.encode(text, out_type=str)
        # unknown characters, and a mark that was no space, have a text of their own there
        if self.theirs.unk_id() not in expected and "▁" not in text:
            assert self.ours.decode(expected) == self.theirs.decode(expected)


@pytest.fixture(scope="module", params=list(MODELS))
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    path = tmp_path_factory.mktemp("sentencepiece") / "tokenizer.model"
    return Pair(path, train(**MODELS[request.param]))


@pytest.fixture(scope="module")
def llama() -> bytes:
    return train(**LLAMA)


class TestIds:
    @pytest.mark.parametrize("text", [*CORPUS, "", " ", "  two  spaces  ", " one before", "▁mark"])
    def test_texts_have_the_ids_sentencepiece_gives(self, pair: Pair, text: str) -> None:
        pair.check(text)

    @given(parts=st.lists(st.sampled_from(PIECES), max_size=12))
    def test_mixed_pieces_have_the_ids_sentencepiece_gives(
        self, pair: Pair, parts: list[str]
    ) -> None:
        pair.check("".join(parts))

    @given(text=st.text(st.sampled_from("aabn he"), max_size=24))
    def test_text_that_repeats_has_the_ids_sentencepiece_gives(self, pair: Pair, text: str) -> None:
        pair.check(text)


class TestSpecialTokens:
    def load(self, tmp_path: Path, data: bytes, **config: Any) -> Tokenizer:
        (tmp_path / "tokenizer.model").write_bytes(data)
        return Tokenizer.load(tmp_path / "tokenizer.model", tokenizer_config=config)

    def ids(self, tokenizer: Tokenizer, *tokens: str) -> list[int | None]:
        return [tokenizer.find_token(token) for token in tokens]

    def test_only_the_beginning_of_the_text_gets_a_space(
        self, tmp_path: Path, llama: bytes
    ) -> None:
        ours = self.load(tmp_path, llama)
        assert ours.encode("<s>a") == self.ids(ours, "<s>", "a")
        assert ours.encode("a<s>") == [*ours.encode("a"), 1]
        assert ours.encode("a<s> a") == [*ours.encode("a"), 1, *ours.encode("a")]

    def test_legacy_gives_every_part_a_space(self, tmp_path: Path, llama: bytes) -> None:
        ours = self.load(tmp_path, llama, legacy=True)
        assert ours.encode("<s>a") == [1, *ours.encode("a")]
        theirs = sentencepiece.SentencePieceProcessor(model_proto=llama)
        assert ours.encode(" a") == theirs.encode(" a")

    def test_the_space_can_be_turned_off(self, tmp_path: Path, llama: bytes) -> None:
        ours = self.load(tmp_path, llama, add_prefix_space=False)
        assert ours.encode("a") == self.ids(ours, "a")

    def test_control_symbols_are_special_and_symbols_of_the_user_are_not(
        self, tmp_path: Path
    ) -> None:
        ours = self.load(tmp_path, train(**LLAMA, user_defined_symbols=["<sep>"]))
        assert {"<s>", "</s>", "<unk>"} == ours.special_tokens
        assert ours.decode(ours.encode("<s>one<sep>two</s>")) == "one<sep>two"

    def test_more_tokens_come_from_the_configuration(self, tmp_path: Path, llama: bytes) -> None:
        added = {"9000": {"content": "<|im_end|>", "special": True}}
        ours = self.load(tmp_path, llama, added_tokens_decoder=added)
        (end,) = ours.encode("<|im_end|>")
        assert end == ours.vocab_size - 1
        assert end in ours.special_ids

    def test_a_whole_model_is_read(self, tmp_path: Path, llama: bytes) -> None:
        (tmp_path / "tokenizer.model").write_bytes(llama)
        template = (
            "{{ bos_token }}{% for m in messages %}[INST] {{ m.content }} [/INST]{% endfor %}"
        )
        config = {"chat_template": template, "bos_token": "<s>", "eos_token": "</s>"}
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
        model = Preprocessor.load(ModelFiles.of_directory(tmp_path), context_length=0)
        assert model.eos_token_ids == (2,)
        for text in ("<s>[INST] the quick fox [/INST]", " the fox<s> the fox", "fox"):
            assert model.encode(text) == model.tokenizer.encode(text)
            assert model.decode(model.encode(text)) == text.replace("<s>", "")


class TestReading:
    def test_pieces_are_those_of_the_library(self, llama: bytes) -> None:
        model = read_sentencepiece(llama)
        theirs = sentencepiece.SentencePieceProcessor(model_proto=llama)
        assert len(model.pieces) == theirs.vocab_size()
        for index, piece in enumerate(model.pieces):
            assert piece.text == theirs.id_to_piece(index)
            assert piece.score == theirs.get_score(index)
            assert (piece.kind is PieceKind.BYTE) == theirs.is_byte(index)
            assert (piece.kind is PieceKind.CONTROL) == theirs.is_control(index)
            assert (piece.kind is PieceKind.UNKNOWN) == theirs.is_unknown(index)

    @pytest.mark.parametrize("kind", ["word", "char"])
    def test_other_kinds_of_models_are_refused(self, tmp_path: Path, kind: str) -> None:
        (tmp_path / "tokenizer.model").write_bytes(train(model_type=kind, use_all_vocab=True))
        with pytest.raises(CardError, match=kind.upper()) as caught:
            Tokenizer.load(tmp_path / "tokenizer.model")
        assert "tokenizer.json" in caught.value.hint

    def test_models_with_spaces_after_words_are_refused(self, tmp_path: Path) -> None:
        data = train(**LLAMA, treat_whitespace_as_suffix=True)
        (tmp_path / "tokenizer.model").write_bytes(data)
        with pytest.raises(CardError, match="before words"):
            Tokenizer.load(tmp_path / "tokenizer.model")

    @given(data=st.data())
    def test_a_damaged_file_is_refused_or_read_but_nothing_else(
        self, tmp_path_factory: pytest.TempPathFactory, llama: bytes, data: st.DataObject
    ) -> None:
        at = data.draw(st.integers(0, len(llama) - 1))
        damaged = bytearray(llama)
        damaged[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        cut = data.draw(st.sampled_from([len(damaged), at]))
        path = tmp_path_factory.mktemp("damaged") / "tokenizer.model"
        path.write_bytes(damaged[:cut])
        try:
            tokenizer = Tokenizer.load(path)
        except CardError as error:
            assert "tokenizer.model" in error.message  # noqa: PT017 - either is fine
        else:
            assert tokenizer.vocab_size > 0

    @pytest.mark.parametrize(
        "data", [b"", b"\n", b"\x0a\xff", b"\x0b", b"\x0a\x02\x08", b"\xff" * 12, b"\x0a\x00"]
    )
    def test_what_is_no_model_is_refused(self, data: bytes) -> None:
        with pytest.raises(CardError):
            read_sentencepiece(data)


def _pushed(tokenizer: Tokenizer, pieces: Sequence[Sequence[int]]) -> str:
    detokenizer = tokenizer.new_detokenizer()
    return "".join([*(detokenizer.push(ids) for ids in pieces), detokenizer.flush()])


@given(data=st.data())
def test_a_stream_reads_as_the_whole_for_any_split(pair: Pair, data: st.DataObject) -> None:
    ids = st.integers(0, pair.ours.vocab_size - 1)
    pieces = data.draw(st.lists(st.lists(ids, max_size=4), max_size=10))
    whole = [token_id for piece in pieces for token_id in piece]
    assert _pushed(pair.ours, pieces) == pair.ours.decode(whole)
