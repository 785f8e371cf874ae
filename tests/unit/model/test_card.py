import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muster.digest import Digest
from muster.errors import CardError
from muster.model.card import ModelDeploymentCard
from muster.model.checked_file import CheckedFile
from muster.model.model_type import ModelInput, ModelType, WorkerType
from muster.model.prompt_context import PromptContext
from muster.model.runtime_config import ModelRuntimeConfig
from muster.model.slot import Slot, SlotKind
from muster.testing.card_mutation import CardMutator
from muster.testing.rich_card import RICH_CARD

SUM = Digest("0123456789abcdef" * 4)
FILE = {"path": "/a", "checksum": str(SUM), "size": 7}
MINIMAL: dict[str, Any] = {
    "display_name": "x",
    "slug": "x",
    "kv_cache_block_size": 0,
    "migration_limit": 0,
    "model_type": "",
    "model_input": "Text",
}


def parse(**fields: Any) -> ModelDeploymentCard:
    return ModelDeploymentCard.from_json_str(json.dumps(MINIMAL | fields))


def written(card: ModelDeploymentCard) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(card.to_json_str())
    return fields


def refused(**fields: Any) -> str:
    with pytest.raises(CardError) as caught:
        parse(**fields)
    return caught.value.message


# --- reading and writing


def test_a_card_of_nothing_but_what_is_required_gets_every_default() -> None:
    assert parse() == ModelDeploymentCard(display_name="x", slug="x")


def test_fields_are_written_in_wire_order_and_empty_ones_left_out() -> None:
    assert list(written(parse())) == [
        *("display_name", "slug", "model_info", "tokenizer", "context_length"),
        *("kv_cache_block_size", "migration_limit", "model_type", "model_input", "worker_type"),
        *("needs", "runtime_config", "media_decoder", "media_fetcher"),
    ]


def test_all_27_fields_are_written_in_wire_order() -> None:
    card = ModelDeploymentCard.from_json_str(json.dumps(dict(reversed(RICH_CARD.items()))))
    assert list(written(card)) == list(RICH_CARD)
    assert len(RICH_CARD) == 27


@pytest.mark.parametrize("name", MINIMAL)
def test_required_fields_must_be_there(name: str) -> None:
    fields = {key: value for key, value in MINIMAL.items() if key != name}
    with pytest.raises(CardError, match=f"^card: missing field `{name}`$"):
        ModelDeploymentCard.from_json_str(json.dumps(fields))


@pytest.mark.parametrize("name", [name for name in RICH_CARD if name not in MINIMAL])
def test_any_other_field_may_be_missing(name: str) -> None:
    fields = {key: value for key, value in RICH_CARD.items() if key != name}
    ModelDeploymentCard.from_json_str(json.dumps(fields))


@pytest.mark.parametrize("name", RICH_CARD)
def test_a_field_may_not_be_repeated(name: str) -> None:
    text = json.dumps(RICH_CARD)[:-1] + f", {json.dumps(name)}: {json.dumps(RICH_CARD[name])}}}"
    with pytest.raises(CardError, match=f"^card: duplicate field `{name}`$"):
        ModelDeploymentCard.from_json_str(text)


@pytest.mark.parametrize("name", [name for name in RICH_CARD if name != "user_data"])
def test_an_error_names_its_field(name: str) -> None:
    with pytest.raises(CardError, match=f"^{name}"):
        ModelDeploymentCard.from_json_str(json.dumps(RICH_CARD | {name: 1.5}))


def test_an_error_deep_inside_names_the_whole_way() -> None:
    message = refused(needs=[["prefill"], ["decode", "Encode"]])
    assert message.startswith("needs[1][1]: unknown variant `Encode`, expected one of `prefill`")


def test_unknown_keys_are_passed_over_whatever_they_hold() -> None:
    text = json.dumps(MINIMAL)[:-1] + r', "zz": [1e999, "\ud800"], "zz": 2}'
    assert ModelDeploymentCard.from_json_str(text) == parse()


def test_an_unreadable_key_is_refused() -> None:
    with pytest.raises(CardError, match="surrogate"):
        ModelDeploymentCard.from_json_str(json.dumps(MINIMAL)[:-1] + r', "\ud800": 1}')


@pytest.mark.parametrize("text", ["null", "1", '"x"', "[]", "true", "{}"])
def test_other_json_is_no_card(text: str) -> None:
    with pytest.raises(CardError, match=r"^card: "):
        ModelDeploymentCard.from_json_str(text)


@pytest.mark.parametrize("text", ["", "{", "\ufeff{}", b"\xff"])
def test_what_is_not_json_is_no_card(text: str | bytes) -> None:
    with pytest.raises(CardError, match=r"^not JSON: "):
        ModelDeploymentCard.from_json_str(text)


def test_bytes_and_text_read_alike() -> None:
    text = json.dumps(RICH_CARD, ensure_ascii=False)
    assert ModelDeploymentCard.from_json_str(text.encode()) == (
        ModelDeploymentCard.from_json_str(text)
    )


def test_a_card_may_be_an_array_of_its_fields() -> None:
    values = [RICH_CARD[name] for name in RICH_CARD]
    assert ModelDeploymentCard.from_json_str(json.dumps(values)) == (
        ModelDeploymentCard.from_json_str(json.dumps(RICH_CARD))
    )


def test_an_array_may_end_after_the_last_required_field() -> None:
    values: list[Any] = ["n", "s", None, None, None, *[None] * 4, 5, None, 6, 7, "Chat", "Text"]
    card = ModelDeploymentCard.from_json_str(json.dumps(values))
    assert (card.display_name, card.context_length, card.needs) == ("n", 5, ())
    with pytest.raises(CardError, match="model_input"):
        ModelDeploymentCard.from_json_str(json.dumps(values[:-1]))


def test_an_array_may_not_have_more_than_the_fields() -> None:
    values = [RICH_CARD[name] for name in RICH_CARD]
    with pytest.raises(CardError, match="28 items"):
        ModelDeploymentCard.from_json_str(json.dumps([*values, None]))


@settings(deadline=None)
@given(st.integers(0, 2**32))
def test_a_card_that_was_read_is_written_as_one_that_reads_as_the_same(seed: int) -> None:
    for text in CardMutator(seed, [RICH_CARD]).cards(10):
        try:
            card = ModelDeploymentCard.from_json_str(text)
        except CardError:
            continue
        once = ModelDeploymentCard.from_json_str(card.to_json_str())
        again = ModelDeploymentCard.from_json_str(once.to_json_str())
        assert list(written(once)) == list(written(card))
        if not set("eE") & set(text):  # long floats are not read exactly, as in 1.6.1
            assert once.mdcsum() == card.mdcsum()
            assert again == once


# --- names, numbers and words


@pytest.mark.parametrize("slug", ["", "-", "___", "a-b_c0", "unrelated"])
def test_a_slug_is_taken_as_it_is(slug: str) -> None:
    assert parse(slug=slug).slug == slug


@pytest.mark.parametrize("slug", ["A", "a b", "a.b", "é", "a/b", "x\n"])
def test_a_slug_has_few_characters(slug: str) -> None:
    assert refused(slug=slug).startswith("slug: Invalid char")


@pytest.mark.parametrize("name", ["kv_cache_block_size", "migration_limit", "context_length"])
@pytest.mark.parametrize("value", [-1, 2**32, 1.0, "1", True, [1]])
def test_counts_are_whole_numbers_of_32_bits(name: str, value: Any) -> None:
    assert refused(**{name: value}).startswith(f"{name}: invalid ")


@pytest.mark.parametrize("value", [0, 2**32 - 1])
def test_counts_go_from_zero_to_32_bits(value: int) -> None:
    assert parse(kv_cache_block_size=value).kv_cache_block_size == value


def test_words_become_members() -> None:
    card = parse(
        model_type="Completions|Chat",
        model_input="Tensor",
        worker_type="encode",
        needs=[["decode"], []],
        prompt_context=["llama3_date_time"],
    )
    assert card.model_type == ModelType.Chat | ModelType.Completions
    assert card.model_input is ModelInput.Tensor
    assert card.worker_type is WorkerType.Encode
    assert card.needs == ((WorkerType.Decode,), ())
    assert card.prompt_context == (PromptContext.LLAMA3_DATE_TIME,)


def test_a_word_may_be_written_as_an_object() -> None:
    assert parse(model_input={"Tokens": None}).model_input is ModelInput.Tokens
    assert refused(model_input={"Tokens": 1}).startswith("model_input: ")
    assert refused(model_input={"Tokens": None, "x": 1}).startswith("model_input: ")


@pytest.mark.parametrize("name", ["needs", "aliases", "extra_files", "runtime_config"])
def test_what_has_an_empty_value_may_not_be_null(name: str) -> None:
    assert refused(**{name: None}).startswith(f"{name}: invalid type: null")


@pytest.mark.parametrize("value", [1, -0.5, "x", [1, {"b": [], "a": None}], {}, False])
def test_user_data_may_be_anything(value: Any) -> None:
    assert written(parse(user_data=value))["user_data"] == value


# --- slots


@pytest.mark.parametrize(
    ("slot", "kind"),
    [
        ("model_info", "hf_config_json"),
        ("tokenizer", "hf_tokenizer_json"),
        ("tokenizer", "tik_token_model"),
        ("prompt_formatter", "hf_tokenizer_config_json"),
        ("chat_template_file", "hf_tokenizer_config_json"),
        ("gen_config", "hf_generation_config_json"),
    ],
)
def test_a_slot_holds_a_file_under_the_kind_it_is(slot: str, kind: str) -> None:
    card = parse(**{slot: {kind: FILE}})
    assert getattr(card, slot) == Slot(SlotKind(kind), CheckedFile.at("/a", SUM, 7))
    assert written(card)[slot] == {kind: FILE}


@pytest.mark.parametrize("slot", ["prompt_formatter", "chat_template_file"])
@pytest.mark.parametrize("kind", ["hf_chat_template", "hf_chat_template_json"])
@pytest.mark.parametrize("is_custom", [True, False])
def test_a_template_says_whether_it_is_custom(slot: str, kind: str, is_custom: bool) -> None:
    fields = {slot: {kind: {"is_custom": is_custom, "file": FILE}}}
    card = parse(**fields)
    assert getattr(card, slot).is_custom is is_custom
    assert written(card)[slot] == fields[slot]
    assert list(card.iter_metadata_files()) == [(CheckedFile.at("/a", SUM, 7), is_custom)]


def test_the_newer_name_of_a_template_is_read_and_the_older_written() -> None:
    template = {"is_custom": False, "file": FILE}
    card = parse(chat_template_file={"hf_chat_template_jinja": template})
    assert written(card)["chat_template_file"] == {"hf_chat_template": template}


def test_the_template_form_of_2025_is_refused() -> None:
    message = refused(chat_template_file={"hf_chat_template": FILE})
    assert "missing field `is_custom`" in message


@pytest.mark.parametrize(
    "content",
    [{}, [], "hf_config_json", {"gguf": FILE}, {"hf_config_json": FILE, "x": 1}, 1],
)
def test_a_slot_has_exactly_one_known_kind(content: Any) -> None:
    assert refused(model_info=content).startswith("model_info: ")


def test_files_are_iterated_in_the_order_of_the_slots() -> None:
    card = ModelDeploymentCard.from_json_str(json.dumps(RICH_CARD))
    names = [(file.basename(), custom) for file, custom in card.iter_metadata_files()]
    assert names == [
        ("config.json", False),
        ("tiktoken.model", False),
        ("tokenizer_config.json", False),
        ("x.jinja", True),
        ("generation_config.json", False),
        ("a%20b.json", False),
        ("y z.json", False),
        ("LICENSE", False),
    ]
    assert [file.basename() for file in card.iter_typed_files()] == [n for n, _ in names[:5]]


def test_every_file_can_be_replaced() -> None:
    card = ModelDeploymentCard.from_json_str(json.dumps(RICH_CARD))
    moved = card.replace_files(lambda file: file.with_dir("/d"))
    assert all(file.location.startswith("/d/") for file, _ in moved.iter_metadata_files())
    assert [custom for _, custom in moved.iter_metadata_files()] == (
        [custom for _, custom in card.iter_metadata_files()]
    )
    back = dict(zip(moved.iter_metadata_files(), card.iter_metadata_files(), strict=True))
    again = moved.replace_files(
        lambda file: next(old for (new, _), (old, _) in back.items() if new == file)
    )
    assert again == card


def test_a_card_without_files_has_none_to_replace() -> None:
    assert parse().replace_files(lambda file: file.with_path("/x")) == parse()


# --- context length


@pytest.mark.parametrize(
    ("runtime", "architectural", "legacy", "effective"),
    [
        (None, None, None, 0),
        (None, None, 5, 5),
        (None, 7, 5, 7),
        (None, 0, 5, 0),
        (9, 7, 5, 9),
        (0, 7, 5, 0),
    ],
)
def test_effective_context_prefers_runtime_then_architecture_then_unknown(
    runtime: int | None, architectural: int | None, legacy: int | None, effective: int
) -> None:
    card = parse(
        runtime_config={"context_length": runtime},
        architectural_max_context_length=architectural,
        context_length=legacy,
    )
    assert card.context_length == effective


def test_context_length_wire_compatibility() -> None:
    """The wire's field is a projection: what was in it does not come back."""
    fields = written(parse(architectural_max_context_length=7, context_length=5))
    assert (fields["architectural_max_context_length"], fields["context_length"]) == (7, 7)


# --- our own key


def test_our_own_key_is_kept() -> None:
    card = parse(muster={"b": [1, {"z": 1.5}], "a": None})
    assert card.muster == {"b": [1, {"z": 1.5}], "a": None}
    assert card.to_json_str().endswith(',"muster":{"b":[1,{"z":1.5}],"a":null}}')
    assert ModelDeploymentCard.from_json_str(card.to_json_str()).muster == card.muster


def test_our_own_key_is_no_part_of_the_digest() -> None:
    assert parse(muster={"a": 1}).mdcsum() == parse().mdcsum()


@pytest.mark.parametrize("content", [{}, None, 1, "x", [1]])
def test_without_an_object_in_it_our_own_key_is_absent(content: Any) -> None:
    assert "muster" not in written(parse(muster=content))


@pytest.mark.parametrize("content", [r'"\ud800"', r'{"a": "\ud800"}', "[" * 200 + "]" * 200])
def test_what_dynamo_would_pass_over_under_our_own_key_so_do_we(content: str) -> None:
    text = json.dumps(MINIMAL)[:-1] + f', "muster": {content}}}'
    assert ModelDeploymentCard.from_json_str(text).muster == {}


# --- making and changing


def test_default_card_has_no_worker_type_and_no_needs() -> None:
    card = ModelDeploymentCard(display_name="x", slug="x")
    assert (card.worker_type, card.needs) == (None, ())


def test_backward_compat_missing_fields_default_to_none_and_empty() -> None:
    card = parse()
    assert (card.worker_type, card.needs, card.aliases, card.extra_files) == (None, (), (), ())


@pytest.mark.parametrize(
    ("worker_type", "needs"),
    [
        (None, []),
        ("decode", [["prefill"]]),
        ("aggregated", [["encode"]]),
        ("encode", [["prefill", "decode"], ["aggregated"]]),
    ],
)
def test_serde_round_trip(worker_type: str | None, needs: list[list[str]]) -> None:
    fields = written(parse(worker_type=worker_type, needs=needs))
    assert (fields["worker_type"], fields["needs"]) == (worker_type, needs)


def test_tensor_config_serializes_at_card_top_level() -> None:
    config = {"name": "t", "inputs": [], "outputs": []}
    assert written(parse(tensor_model_config=config))["tensor_model_config"] == config


def test_a_new_name_brings_its_slug() -> None:
    card = parse().with_name("My/LoRA v1")
    assert (card.display_name, card.slug) == ("My/LoRA v1", "my_lora_v1")


def test_a_changed_card_has_its_own_digest() -> None:
    card = parse()
    before = card.mdcsum()
    changed = msgspec.structs.replace(card, display_name="y")
    assert changed.mdcsum() != before
    assert card.mdcsum() == before


def test_a_card_made_here_is_read_back_as_it_is() -> None:
    card = ModelDeploymentCard(
        display_name="m",
        slug="m",
        source_path="/m",
        model_info=Slot(SlotKind.HF_CONFIG_JSON, CheckedFile(path="/m/config.json", checksum=SUM)),
        architectural_max_context_length=9,
        legacy_context_length=9,
        model_type=ModelType.Chat,
        model_input=ModelInput.Tokens,
        worker_type=WorkerType.Aggregated,
        runtime_config=ModelRuntimeConfig(max_num_seqs=4, runtime_data={"k": [1]}),
        extra_files=(CheckedFile(url="http://h/x", checksum=SUM, size=1),),
        muster={"v": 1},
    )
    assert ModelDeploymentCard.from_json_str(card.to_json_str()) == card
