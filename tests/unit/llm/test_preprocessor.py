"""A model directory, loaded: from messages to ids and from ids to text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from muster.errors import CardError, InvalidArgument
from muster.llm.conversation import Conversation
from muster.llm.preprocessor import ModelFiles, Preprocessor
from muster.llm.tokenizer import Tokenizer

DEEPSEEK = Path(__file__).resolve().parents[3] / ".." / "shared" / "models" / "deepseek"
TEMPLATE = "{{ bos_token }}{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"
HI = Conversation(messages=[{"role": "user", "content": "hi"}])


def small_tokenizer() -> tokenizers.Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {character: index for index, character in enumerate(alphabet)}
    hf = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    hf.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    hf.decoder = decoders.ByteLevel()
    hf.add_special_tokens(["<s>", "</s>"])
    return hf


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    small_tokenizer().save(str(tmp_path / "tokenizer.json"))
    write(tmp_path / "config.json", {"eos_token_id": 3})
    write(
        tmp_path / "tokenizer_config.json",
        {"bos_token": "<s>", "eos_token": {"content": "</s>"}, "chat_template": TEMPLATE},
    )
    return tmp_path


def write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value))


def load(directory: Path, **options: Any) -> Preprocessor:
    return Preprocessor.load(ModelFiles.of_directory(directory, **options), context_length=100)


class TestLoading:
    def test_everything_is_read(self, directory: Path) -> None:
        write(directory / "generation_config.json", {"temperature": 0.5})
        model = load(directory)
        assert model.serves_chat
        assert model.context_length == 100
        assert model.eos_token_ids == (3, 257)
        assert model.generation.bos_token_id == 256
        assert model.generation.sampling.temperature == 0.5

    def test_only_the_tokenizer_is_required(self, tmp_path: Path) -> None:
        small_tokenizer().save(str(tmp_path / "tokenizer.json"))
        model = load(tmp_path)
        assert not model.serves_chat
        assert model.eos_token_ids == (257,)  # a well-known name

    def test_without_a_template_only_chat_is_refused(self, tmp_path: Path) -> None:
        small_tokenizer().save(str(tmp_path / "tokenizer.json"))
        model = load(tmp_path)
        with pytest.raises(InvalidArgument, match="no chat template") as caught:
            model.render(HI)
        assert "/v1/completions" in caught.value.hint
        assert model.decode(model.encode("hé")) == "hé"

    def test_special_tokens_map_fills_in(self, directory: Path) -> None:
        write(directory / "tokenizer_config.json", {"chat_template": TEMPLATE})
        write(directory / "special_tokens_map.json", {"bos_token": "<s>", "eos_token": "</s>"})
        assert load(directory).render(HI) == "<s>hi</s>"

    def test_a_template_file_wins_and_a_custom_one_wins_over_that(self, directory: Path) -> None:
        (directory / "chat_template.jinja").write_text("file")
        assert load(directory).render(HI) == "file"
        custom = directory / "mine.txt"
        custom.write_text("mine")
        assert load(directory, custom_template=custom).render(HI) == "mine"

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("tokenizer.json", "{}"),
            ("tokenizer.json", "not json"),
            ("config.json", "{"),
            ("tokenizer_config.json", '{"chat_template": "{% if %}"}'),
            ("chat_template.jinja", "{% if %}"),
            ("generation_config.json", "[]"),
        ],
    )
    def test_a_broken_file_is_named(self, directory: Path, name: str, text: str) -> None:
        (directory / name).write_text(text)
        with pytest.raises(CardError, match=name):
            load(directory)

    def test_a_directory_without_a_tokenizer_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(CardError, match=r"no tokenizer\.json"):
            ModelFiles.of_directory(tmp_path)

    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            ("tiktoken.model", "tiktoken file"),
            ("qwen.tiktoken", "tiktoken file"),
            ("tokenizer.model", "SentencePiece model"),
        ],
    )
    def test_a_broken_tokenizer_is_refused_by_name(
        self, tmp_path: Path, name: str, kind: str
    ) -> None:
        (tmp_path / name).write_text("x")
        with pytest.raises(CardError, match=f"not a usable {kind}") as caught:
            load(tmp_path)
        assert name in caught.value.message
        assert "tokenizer.json" in caught.value.hint

    def test_a_missing_file_is_a_card_error(self, tmp_path: Path) -> None:
        with pytest.raises(CardError, match="cannot read"):
            Preprocessor.load(ModelFiles(tokenizer=tmp_path / "t.json"), context_length=0)


class TestTokenizer:
    def test_special_tokens_in_the_text_become_ids_and_none_are_added(
        self, directory: Path
    ) -> None:
        ids = load(directory).encode("<s>a</s>")
        assert ids[0] == 256
        assert ids[-1] == 257
        assert len(ids) == 3

    def test_truncation_and_padding_of_the_file_do_not_apply(self, directory: Path) -> None:
        hf = small_tokenizer()
        hf.enable_truncation(3)
        hf.enable_padding(length=10)
        hf.save(str(directory / "tokenizer.json"))
        model = load(directory)
        assert len(model.encode("abcdef")) == 6
        assert len(model.encode("a")) == 1

    def test_tokens_of_tokenizer_config_are_added(self, directory: Path) -> None:
        added = {
            "257": {"content": "</s>", "special": True},
            "258": {"content": "<tool>", "special": False},
            "259": {"content": "<|end|>", "special": True},
        }
        write(directory / "tokenizer_config.json", {"added_tokens_decoder": added})
        tokenizer = load(directory).tokenizer
        assert tokenizer.encode("<tool><|end|>") == [258, 259]
        assert tokenizer.special_ids == {256, 257, 259}
        assert tokenizer.decode([258, 259]) == "<tool>"

    def test_a_token_that_tokenizer_config_calls_special_is(self, directory: Path) -> None:
        hf = small_tokenizer()
        hf.add_tokens(["<|end|>"])
        hf.save(str(directory / "tokenizer.json"))
        added = {"258": {"content": "<|end|>", "special": True}}
        write(directory / "tokenizer_config.json", {"added_tokens_decoder": added})
        tokenizer = load(directory).tokenizer
        assert tokenizer.special_ids == {256, 257, 258}
        assert tokenizer.new_detokenizer().push([258]) == ""

    def test_ids_with_holes_between_them_are_all_known(self, tmp_path: Path) -> None:
        hf = tokenizers.Tokenizer(models.WordLevel({"a": 0, "b": 7, "[UNK]": 900}, "[UNK]"))
        path = tmp_path / "tokenizer.json"
        hf.save(str(path))
        tokenizer = Tokenizer.load(path)
        assert tokenizer.vocab_size == 901
        assert tokenizer.find_text(7) == "b"
        assert tokenizer.find_text(3) is None
        assert tokenizer.new_detokenizer().push([0, 3, 7, 900]) == "a b [UNK]"

    def test_an_absurd_id_costs_nothing(self, tmp_path: Path) -> None:
        hf = tokenizers.Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1 << 30}, "[UNK]"))
        path = tmp_path / "tokenizer.json"
        hf.save(str(path))
        tokenizer = Tokenizer.load(path)
        assert tokenizer.new_detokenizer().push([1 << 30, 1 << 31, 0]) == "[UNK] a"
        assert tokenizer.vocab_size == (1 << 30) + 1

    def test_single_tokens_have_bytes(self, directory: Path) -> None:
        tokenizer = load(directory).tokenizer
        ids = tokenizer.encode("é ")
        assert [tokenizer.token_bytes(token_id) for token_id in ids] == [b"\xc3", b"\xa9", b" "]
        assert tokenizer.token_bytes(256) == b"<s>"
        assert tokenizer.token_bytes(999) == b""

    def test_a_text_that_is_not_unicode_is_the_callers_mistake(self, directory: Path) -> None:
        with pytest.raises(InvalidArgument, match="cannot be tokenized"):
            load(directory).encode("a\ud800")


def test_a_real_model_goes_from_messages_to_ids_and_back() -> None:
    if not DEEPSEEK.is_dir():
        pytest.skip("the shared DeepSeek model files are not there")
    model = load(DEEPSEEK)
    prompt = model.render(HI)
    assert prompt == "<｜begin▁of▁sentence｜><｜User｜>hi<｜Assistant｜>"  # noqa: RUF001 - its spelling
    ids = model.encode(prompt)
    assert ids[0] == 0
    assert model.decode(ids, skip_special_tokens=False) == prompt
    assert model.eos_token_ids == (1,)
    assert model.tokenizer.vocab_size == 129_280
